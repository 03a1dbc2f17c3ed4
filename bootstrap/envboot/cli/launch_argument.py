"""What LAUNCH names, for every command that looks at one: its bucket, its instances."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeVar

import click

from envboot.cli import console
from envboot.errors import (
    EnvbootError,
    MissingExtraError,
    ProvisionError,
    UnseenError,
    UsageError,
    name_some,
)
from envboot.fleet.history import read_records
from envboot.folders import state_folder
from envboot.store.protocol import MalformedError
from envboot.text import one_line
from envboot_provisioners import load_provisioner, provisioner_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from envboot.fleet.watch import Fleet
    from envboot.session import Session
    from envboot_provisioners import Instance, Provisioner


_T = TypeVar("_T")


def complete_launch(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Complete names of launches from here, the newest first."""
    del ctx, parameter
    names = [record.launch for record in read_records(state_folder(os.environ))]
    return [name for name in reversed(names) if name.startswith(text)]


LAUNCH = click.argument("launch", required=False, shell_complete=complete_launch)
LAUNCHES = click.argument("launches", nargs=-1, metavar="LAUNCH…", shell_complete=complete_launch)
STORE = click.option(
    "--store",
    metavar="URL",
    help="The bucket of a launch that was made elsewhere.  [default: `tool.envboot.store`]",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")


def takes_timeout(
    explained: str, *, default: float | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the option `--timeout SECONDS`; `explained` is its help."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=explained,
    )


def find_instances(
    session: Session, failures: list[EnvbootError] | None = None
) -> list[tuple[Provisioner, list[Instance]]]:
    """Return every instance from here, by provisioner; one that cannot be asked is told about.

    It joins the `failures`, if given. A provisioner without any is left out: the SDK of a cloud
    takes seconds to import.
    """
    asked = (_find_own(name, session, failures) for name in provisioner_names())
    return [found for found in asked if found]


def _find_own(
    name: str, session: Session, failures: list[EnvbootError] | None
) -> tuple[Provisioner, list[Instance]] | None:
    try:
        provisioner = load_provisioner(name, session)
        instances = provisioner.instances()
    except (MissingExtraError, ProvisionError) as error:
        if failures is not None and isinstance(error, ProvisionError):
            failures.append(error)
            return None
        way = f" ({error.hint})" if error.hint else ""
        console.print_warning(f"`{name}` is left out: {error.message}{way}")
        return None
    return (provisioner, instances) if instances else None


def find_only_running(session: Session) -> str:
    """Return the one launch from here that runs.

    Raises:
        UsageError: none runs, or more than one does.
    """
    running = set()
    for provisioner, instances in find_instances(session):
        states = provisioner.states(instances)
        running |= {each.launch for each in instances if states[each.name].alive}
    if len(running) != 1:
        seen = name_some(sorted(running)) if running else "none"
        raise UsageError(
            f"Expected the name of a launch, or exactly one that runs, found {seen}",
            hint="`envboot ls` lists the instances from here",
        )
    return running.pop()


def looks_at_launch(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument LAUNCH and the option `--store`."""
    return LAUNCH(STORE(function))


def _read(read: Callable[[], _T], key: str, unread: list[str]) -> _T | None:
    """Read a document that machines of the launch may have overwritten; note one that is none."""
    try:
        return read()
    except MalformedError:
        unread.append(key)
        return None


def _add_instances(fleet: Fleet, maker: str | None, place: Mapping[str, str]) -> UnseenError | None:
    """Add what the platform shows of a launch; returns why it shows nothing."""
    launch, provisioner = fleet.launch, fleet.provisioner
    if provisioner is None:
        if maker is None:
            return None
        why = f"Provisioner `{one_line(maker)}`, which made them, is not installed here"
        return UnseenError(launch, why, hint="Look where it was launched, or install it")
    try:
        instances = provisioner.instances(launch, place)
    except UnseenError as error:
        return error
    except (MissingExtraError, ProvisionError) as error:
        why = ": ".join([error.message, *error.causes[:1]])
        return UnseenError(launch, why, hint=error.hint or "Look where it was launched")
    fleet.add(instances)
    if fleet.end and not instances:
        provisioner.forget(launch)
    return None


@contextlib.contextmanager
def open_fleet(
    launch: str | None, store: str | None, session: Session, *, warns: bool = True
) -> Iterator[Fleet]:
    """Find a launch by its name, the newest from here without one, and open its bucket.

    Its platform is asked for its instances where it was made. Where that cannot be, `unseen` of
    the fleet says why, and with `warns` a warning does, unless the launch is known to be over.

    Raises:
        UsageError: neither this machine nor the bucket knows it.
    """
    from envboot.fleet.watch import Fleet
    from envboot.publish.launch_record import key_end, key_record, read_end, read_record
    from envboot.store import open_store

    records = read_records(session.state)
    if launch is None and not records:
        raise UsageError(
            "Expected the name of a launch: none was made from here",
            hint="`envboot ls --store URL` lists those of a bucket, as `s3://bucket/prefix` or "
            "`gs://bucket/prefix`; `--store` names it to this command, too",
        )
    record = next((r for r in reversed(records) if launch in (None, r.launch)), None)
    name = launch or records[-1].launch
    url = store or (record.store if record else session.store)
    with open_store(url, session) as bucket:
        unread: list[str] = []
        known = _read(lambda: read_record(bucket, name), key_record(name), unread)
        if record is None and known is None and not unread:
            raise UsageError(
                f"Unknown launch `{name}` in `{url}`",
                hint="`envboot ls --past` lists those from here, `envboot ls --store URL` those of "
                "a bucket",
            )
        maker = record.provisioner if record else known.provisioner if known else None
        provisioner = load_provisioner(maker, session) if maker in provisioner_names() else None
        fleet = Fleet(
            launch=name,
            store=bucket,
            provisioner=provisioner,
            count=(known.count or 0) if known else 0,
            command=bool(known and known.command),
            output=bool(known and known.output),
            about=known,
            ends=(record.ends if record else None) or (known.ends if known else None),
            end=_read(lambda: read_end(bucket, name), key_end(name), unread),
            unread=unread,
        )
        # Ours comes first: machines of the launch may have overwritten the one in the bucket.
        place = (record.place if record else None) or (known.place if known else None) or {}
        fleet.unseen = _add_instances(fleet, maker, place)
        if fleet.unseen:
            # The bucket alone tells most of it.
            fleet.provisioner = None
            if warns and not fleet.end:
                why = ": ".join([fleet.unseen.message, *fleet.unseen.causes])
                console.print_warning(f"{why}. {fleet.unseen.hint}")
        yield fleet
        console.print_malformed(fleet.malformed)
