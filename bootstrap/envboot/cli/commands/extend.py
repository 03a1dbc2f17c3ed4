"""`envboot extend`: let the instances of a launch live longer than it was launched for."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.launch_argument import JSON, STORE, open_fleet, takes_timeout
from envboot.cli.progress import Screen
from envboot.errors import UsageError
from envboot.session import open_session

if TYPE_CHECKING:
    from envboot.fleet.watch import Fleet
    from envboot.session import Session


@click.command("extend")
@click.argument("launch")
@click.argument("duration", metavar="DURATION")
@STORE
@takes_timeout("How long the instances may take to hear of it.", default=60)
@JSON
def command(
    *, launch: str, duration: str, store: str | None, timeout: float, as_json: bool
) -> None:
    """Let the instances of LAUNCH live DURATION (`12h`, `3d`) longer than they would.

    That is beside `--max-life` of their launch; signed URLs do not live longer for it. It is
    signed with the key of the launch, which is on the machine that launched it.
    """
    from envboot.duration import parse_duration
    from envboot.fleet.life import LONGEST, find_new_end, format_time, show_end
    from envboot.fleet.sync import extend

    seconds = parse_duration(duration, longest=LONGEST)
    session = open_session()
    with open_fleet(launch, store, session) as fleet, Screen(quiet=as_json) as screen:
        now = datetime.now(timezone.utc)
        end = find_new_end(find_end(fleet, session), seconds, now)
        if fleet.provisioner and fleet.provisioner.ends_instances:
            raise UsageError(
                f"Cannot extend `{fleet.launch}`: its platform deletes its instances at "
                f"{fleet.ends}, which cannot be moved",
                hint="Launch with a longer `--max-life`",
            )
        moved = extend(fleet, session, end, timeout=timeout, note=screen.step)
    text = format_time(int(end.timestamp()))
    if as_json:
        document = {"launch": moved.launch, "ends": text, "instances": sorted(moved.instances)}
        console.print_json({**document, "gone": sorted(moved.gone)})
        return
    many = console.count(len(moved.instances), "instance")
    console.say(f"{moved.launch}: {many} until {text}, which is in {show_end(end, now)}")


def find_end(fleet: Fleet, session: Session) -> datetime | None:
    """Return when instances of a launch end by themselves, None where they never do.

    Raises:
        UsageError: it is not known.
    """
    from envboot.fleet.life import parse_time
    from envboot.fleet.wanted import find_newest

    if fleet.ends is None:
        raise UsageError(
            f"Cannot extend `{fleet.launch}`: its record does not say when it ends",
            hint="Instances that were not launched with `envboot launch` have no such end",
        )
    moved = find_newest(fleet.store, fleet.launch, session).end
    if moved is not None:
        return datetime.fromtimestamp(moved, timezone.utc)
    return parse_time(fleet.ends)
