"""`envboot logs`: what the command printed on the instances, and what their consoles show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from envboot.cli.console import say, write
from envboot.cli.launch_argument import looks_at_launch, open_fleet
from envboot.errors import UsageError, name_some
from envboot.fleet.outcomes import find_named
from envboot.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.watch import Fleet


@click.command("logs")
@looks_at_launch
@click.argument("instances", nargs=-1, metavar="[INSTANCE…]")
@click.option("-f", "--follow", is_flag=True, help="Go on until every command has ended.")
@click.option("--console", is_flag=True, help="Show the instances' consoles instead.")
@click.option(
    "--raw", is_flag=True, help="Print escape sequences as they are: your terminal obeys."
)
def command(
    *,
    launch: str | None,
    store: str | None,
    instances: tuple[str, ...],
    follow: bool,
    console: bool,
    raw: bool,
) -> None:
    """Print what the command of LAUNCH printed, all instances or some.

    Without LAUNCH, the newest that was made from here. Output comes through the bucket, some
    seconds late while the command runs. A console is what the machine's serial port showed.
    Escape sequences are spelled out (`\\x1b[31m`), so that no machine can write to your terminal
    what it likes.
    """
    from envboot.cli.progress import Screen

    with open_fleet(launch, store, open_session()) as fleet, Screen(quiet=False, raw=raw) as screen:
        outcomes = choose(fleet.look(), instances)
        if console:
            _print_consoles(fleet, outcomes, raw=raw)
            return
        screen.flush(outcomes)
        while follow and not all(o.is_done(command=fleet.command) for o in outcomes):
            time.sleep(1)
            outcomes = choose(fleet.look(), instances)
            screen.flush(outcomes)


def choose(outcomes: list[Outcome], names: tuple[str, ...]) -> list[Outcome]:
    """Return the named instances, all without a name; raises UsageError for an unknown one.

    An instance is named by its name or its host.
    """
    instances = [outcome.instance for outcome in outcomes]
    named = {name: find_named(name, instances) for name in names}
    if unknown := [name for name, found in named.items() if not found]:
        known = sorted(instance.name for instance in instances)
        raise UsageError(
            f"Unknown instance {name_some(unknown)}",
            hint=f"The launch has {name_some(known) or 'none yet'}",
        )
    wanted = {instance.name for found in named.values() for instance in found}
    return [outcome for outcome in outcomes if not names or outcome.instance.name in wanted]


def _print_consoles(fleet: Fleet, outcomes: Sequence[Outcome], *, raw: bool) -> None:
    if fleet.provisioner is None:
        raise UsageError(
            f"Cannot show the consoles of `{fleet.launch}`: nobody here knows its instances",
            hint="Sign in where it was launched, or look at the machines themselves",
        )
    for outcome in outcomes:
        if len(outcomes) > 1:
            say(f"==> {outcome.instance.name} <==")
        text = fleet.provisioner.console(outcome.instance)
        if not text:
            empty = f"the console of {outcome.instance.name} is empty so far"
            say(empty, err=True)
        text += "\n" if text and not text.endswith("\n") else ""
        if raw:
            write(text.encode(errors="replace"))
        else:
            say(text, nl=False)
