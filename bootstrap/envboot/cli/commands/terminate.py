"""`envboot terminate`: end instances and remove what they left on this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.launch_argument import LAUNCHES, STORE, find_instances, open_fleet
from envboot.errors import EnvbootError, ProvisionError, UnseenError, UsageError
from envboot.fleet.outcomes import find_named
from envboot.session import open_session
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.session import Session
    from envboot_provisioners import Instance, Provisioner


@click.command("terminate")
@LAUNCHES
@click.option("--all", "every", is_flag=True, help="End every launch that was made from here.")
@STORE
def command(launches: tuple[str, ...], *, every: bool, store: str | None) -> None:
    """End the instances of launches, or single instances.

    A single one is named by its name or its host. One that was started elsewhere is found by its
    name once it has reported; `--store` names the bucket of its launch.
    """
    if bool(launches) == every:
        raise UsageError(
            "Expected the names of launches, or `--all`",
            hint="`envboot ls` lists those from here, `envboot ls --store URL` those of a bucket",
        )
    session = open_session()
    # What cannot be found, or ended, keeps none of the others from being ended.
    failures: list[EnvbootError] = []
    for provisioner, instances in _find(launches, session, failures, every=every, store=store):
        try:
            provisioner.terminate(instances)
        except ProvisionError as error:
            failures.append(error)
            continue
        for instance in instances:
            console.say(f"ended {instance.name}", err=True)
        for launch in sorted({instance.launch for instance in instances}):
            _note(launch, store, session)
    if len(failures) > 1:
        causes = tuple(cause for each in failures for cause in (each.message, *each.causes))
        hints = dict.fromkeys(each.hint for each in failures if each.hint)
        raise ProvisionError(
            "Failed to end some instances", causes=causes, hint="; ".join(hints) or None
        )
    if failures:
        raise failures[0]


def _note(launch: str, store: str | None, session: Session) -> None:
    """Leave in the bucket that a launch is over, as far as it can be reached."""
    from envboot.publish.launch_record import write_end

    opened = open_fleet(launch, store, session, warns=False)
    with contextlib.suppress(EnvbootError), opened as fleet:
        # Of those of the bucket alone nobody knows how they are.
        if not fleet.unseen and not fleet.instances:
            write_end(fleet.store, launch, "terminated")


def _find(
    names: tuple[str, ...],
    session: Session,
    failures: list[EnvbootError],
    *,
    every: bool,
    store: str | None,
) -> list[tuple[Provisioner, Sequence[Instance]]]:
    here = find_instances(session, failures if every else None)
    found: list[tuple[Provisioner, Sequence[Instance]]] = []
    if every:
        found += here
        return found
    left = set(names)
    for provisioner, instances in here:
        wanted = []
        for name in names:
            ours = [each for each in instances if each.launch == name]
            ours = ours or find_named(name, instances)
            left -= {name} if ours else set()
            wanted += [each for each in ours if each not in wanted]
        if wanted:
            found.append((provisioner, wanted))
    for name in sorted(left):
        # Made elsewhere, or over already: whoever knows the launch knows its instances.
        try:
            known = _find_known(name, store, session)
        except EnvbootError as error:
            failures.append(error)
            continue
        if known:
            found.append(known)
        else:
            console.say(f"nothing of {name} is left", err=True)
    return found


def _find_known(
    name: str, store: str | None, session: Session
) -> tuple[Provisioner, Sequence[Instance]] | None:
    """Return the instances of a launch, or the instance, of that name; None where none is left.

    Raises:
        EnvbootError: there is no such name, or what has it cannot be seen from here.
    """
    try:
        return _find_launch(name, store, session)
    except UsageError:
        known = _find_single(name, store, session)
        if known is None:
            raise
        return known


def _find_launch(
    name: str, store: str | None, session: Session
) -> tuple[Provisioner, Sequence[Instance]] | None:
    """Return the instances of a launch, None where none is left.

    Raises:
        UsageError: nobody knows a launch of that name.
        MalformedError: nobody can tell whose instances they are.
    """
    with open_fleet(name, store, session, warns=False) as fleet:
        if fleet.unseen:
            raise fleet.unseen
        if fleet.provisioner is None and fleet.about is None:
            raise MalformedError(
                f"Cannot end `{name}`: who made its instances is not to be read from here",
                causes=tuple(f"`{key}` is not what envboot writes" for key in fleet.unread),
                hint="End it where it was launched, or with the tools of its platform",
            )
        if fleet.provisioner is None:
            raise UnseenError(
                name,
                "Its document was rendered for others to start machines with",
                hint="End them where they were started, or with the tools of their platform",
            )
        return (fleet.provisioner, fleet.instances) if fleet.instances else None


def _find_single(
    name: str, store: str | None, session: Session
) -> tuple[Provisioner, Sequence[Instance]] | None:
    """Return a single instance of a launch that was made elsewhere, None where it is none."""
    from envboot.fleet.launches import find_holders
    from envboot.store import open_store

    with open_store(store or session.store, session) as bucket:
        launches = find_holders(bucket, name)
    for launch in launches:
        with open_fleet(launch, store, session) as fleet:
            if fleet.provisioner:
                found = find_named(name, fleet.instances)
                if found:
                    return fleet.provisioner, found
    return None
