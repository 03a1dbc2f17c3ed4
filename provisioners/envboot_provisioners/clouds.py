"""What is the same on every cloud: one look-up a plan, undoing a start, ending what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from envboot.errors import EnvbootError, ProvisionError
from envboot_provisioners.faults import Fault, raise_faults
from envboot_provisioners.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from envboot_provisioners import Instance, StartRequest
    from envboot_provisioners.cloud_records import CloudRecord, CloudRecords

GIB = 1 << 30

_Clients = TypeVar("_Clients")
_Plan = TypeVar("_Plan")
_Target = TypeVar("_Target")


def find_plan(
    plans: dict[Hashable, _Plan],
    key: Hashable,
    faults: Sequence[Fault],
    *,
    connect: Callable[[], _Clients],
    look_up: Callable[[_Clients, Sequence[Fault]], _Plan],
    platform: str,
) -> _Plan:
    """Return the plan of `key`, looked up once; `faults` are those that were found before.

    Raises:
        ProvisionError: all that is wrong, at once; `platform` is where, in words.
    """
    if key in plans and not faults:
        return plans[key]
    try:
        clients = connect()
    except ProvisionError as error:
        if faults:
            told = Fault(message=": ".join((error.message, *error.causes)), hint=error.hint)
            raise_faults([*faults, told], platform)
        raise
    plans[key] = look_up(clients, faults)
    return plans[key]


def undo_start(
    why: BaseException,
    undo: Callable[[], None],
    *,
    request: StartRequest,
    records: CloudRecords,
) -> None:
    """End what a start that failed has started, uninterrupted, and remove its record.

    Raises:
        ProvisionError: some could not be ended; `why` is among the causes.
    """
    told: tuple[str, ...] = (f"Ended because of: {why!r}",)
    if isinstance(why, EnvbootError):
        told = (f"Ended because of: {why.message}", *why.causes)
    with defer_interrupts():
        try:
            undo()
        except ProvisionError as error:
            causes = (*error.causes, *told)
            raise ProvisionError(error.message, causes=causes, hint=error.hint) from why
        # Earlier calls for the same launch may have instances there.
        if not request.first:
            records.remove(request.launch)


def refuse_unanswered(launch: str, error: ProvisionError) -> ProvisionError:
    """Return the error for a launch of which nobody tells what it has started."""
    hint = f"End it when it does: `envboot terminate {launch}`"
    return ProvisionError(error.message, causes=error.causes, hint=hint)


def refuse_end(
    failed: Mapping[_Target, str],
    many: int,
    *,
    platform: str,
    name: Callable[[_Target], str],
    hint: str,
) -> ProvisionError:
    """Return the error for instances of `many` that could not be ended, each reason once."""
    reasons: dict[str, list[str]] = {}
    for target, reason in failed.items():
        reasons.setdefault(reason, []).append(name(target))
    return ProvisionError(
        f"Failed to end {len(failed)} of {many} instances on {platform}, which cost on",
        causes=tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()),
        hint=f"End them by hand: {hint}",
    )


def end_in_each(
    groups: Mapping[str | None, Sequence[Instance]],
    end: Callable[[str | None, Sequence[Instance]], None],
    *,
    message: Callable[[int], str],
) -> None:
    """End the instances of every place, whatever becomes of the others.

    `message` says of several places that some instances there could not be ended.

    Raises:
        ProvisionError: some could not be ended; it names every one of them.
    """
    failures = []
    for place, instances in groups.items():
        try:
            end(place, instances)
        except ProvisionError as error:  # noqa: PERF203 - each may cost a request, and money
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ProvisionError(
            message(len(failures)),
            causes=tuple(cause for error in failures for cause in error.causes),
            hint="; ".join(error.hint for error in failures if error.hint),
        )


def group_instances(
    instances: Iterable[Instance], records: CloudRecords
) -> dict[str | None, list[Instance]]:
    """Return instances by their place, as they say or their launch's record; else None."""
    found: dict[str | None, list[Instance]] = {}
    for instance in instances:
        place = instance.details.get(records.member)
        if place is None and (record := records.find(instance.launch)):
            place = record.place
        found.setdefault(place, []).append(instance)
    return found


def group_records(records: Iterable[CloudRecord]) -> dict[str, list[CloudRecord]]:
    """Return the records of launches by their place."""
    found: dict[str, list[CloudRecord]] = {}
    for record in records:
        found.setdefault(record.place, []).append(record)
    return found


def size_root(wanted: int | None, *, image: str, least: int, smallest: int, room: int) -> int:
    """Return the GiB of a disk that holds an image of `least`, and `room` bytes beside it.

    Raises:
        ProvisionError: what the user wants is smaller than the image.
    """
    if wanted is None:
        return max(smallest, least + -(-room // GIB))
    if fault := find_root_fault(wanted, image=image, least=least):
        raise ProvisionError(fault.message)
    return wanted


def find_root_fault(wanted: int | None, *, image: str, least: int) -> Fault | None:
    """Return what is wrong with the GiB that the user wants for an image that needs `least`."""
    if wanted is None or wanted >= least:
        return None
    return Fault(
        message=f"Expected `root-size` of at least {least} GiB, which the image `{image}` needs, "
        f"found {wanted}"
    )
