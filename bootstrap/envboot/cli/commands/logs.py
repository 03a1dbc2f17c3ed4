"""`envboot logs`: what the command printed on the instances, and what their consoles show."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from envboot.cli.console import print_warning, say, write
from envboot.cli.launch_argument import looks_at_launch, open_fleet
from envboot.errors import ProvisionError, UsageError, name_some
from envboot.fleet.outcomes import find_named
from envboot.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.cli.printer import View
    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.watch import Fleet


@click.command("logs")
@looks_at_launch
@click.argument("instances", nargs=-1, metavar="[RANK|INSTANCE…]")
@click.option("-f", "--follow", is_flag=True, help="Go on until every command has exited.")
@click.option(
    "--since",
    metavar="TIME",
    help="Only what is younger: `90s`, `10m`, `2h`, or `2026-11-30T12:00:00Z`.",
)
@click.option("--grep", metavar="REGEX", help="Only lines in which this is found.")
@click.option("--rank", "ranks", type=int, multiple=True, metavar="N", help="As the argument RANK.")
@click.option("--stdout", "stream", flag_value="stdout", help="Only what went to stdout.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only what went to stderr.")
@click.option("--timestamps", is_flag=True, help="Put the time before each line, in UTC.")
@click.option("--console", is_flag=True, help="Show the instances' consoles instead.")
@click.option(
    "--raw", is_flag=True, help="Print escape sequences as they are: your terminal obeys."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document for each line.")
def command(*, launch: str | None, store: str | None, **given: Any) -> None:
    """Print what the command of LAUNCH printed, on all instances or on some.

    Without LAUNCH, the newest that was made from here. stdout is printed to stdout and stderr to
    stderr. Output comes through the bucket, about two seconds late while the command runs. A
    console is what the machine's serial port showed. On a terminal escape sequences are spelled
    out (`\\x1b[31m`), so that no machine can write to it what it likes.
    """
    from envboot.cli.progress import Screen

    view = _read_view(given)
    since = parse_since(given["since"], datetime.now(timezone.utc)) if given["since"] else 0
    names = (*given["instances"], *map(str, given["ranks"]))
    with open_fleet(launch, store, open_session()) as fleet, Screen(view=view) as screen:
        outcomes = choose(fleet.look(), names)
        if given["console"]:
            _print_consoles(fleet, outcomes, raw=given["raw"])
            return
        screen.reads(fleet, since=since)
        screen.flush(outcomes)
        while given["follow"] and not all(o.is_done(command=fleet.command) for o in outcomes):
            time.sleep(1)
            outcomes = choose(fleet.look(), names)
            screen.flush(outcomes)


def _read_view(given: dict[str, Any]) -> View:
    """Return how output is to be printed.

    Raises:
        UsageError: `--grep` is no regular expression.
    """
    from envboot.cli.printer import View
    from envboot.fleet.output import Stream

    try:
        grep = re.compile(given["grep"].encode()) if given["grep"] is not None else None
    except re.error as error:
        raise UsageError(
            f"Expected a regular expression for `--grep`, found `{given['grep']}`",
            causes=(str(error),),
        ) from error
    return View(
        raw=given["raw"],
        stream=Stream[given["stream"].upper()] if given["stream"] else None,
        grep=grep,
        timestamps=given["timestamps"],
        as_json=given["as_json"],
    )


def parse_since(text: str, now: datetime) -> int:
    """Return a time in milliseconds since 1970: so long before now, or a time of ISO 8601.

    Raises:
        UsageError: it is neither.
    """
    from envboot.duration import parse_duration

    try:
        # Python 3.10 does not know `Z`.
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return int(1000 * (now.timestamp() - parse_duration(text)))
    return int(1000 * time.timestamp())


def choose(outcomes: list[Outcome], names: tuple[str, ...]) -> list[Outcome]:
    """Return the named instances, all without a name; raises UsageError for an unknown one.

    An instance is named by its rank, its name or its host.
    """
    instances = [outcome.instance for outcome in outcomes]
    ranks = {str(each.rank): [each.instance] for each in outcomes if each.rank is not None}
    named = {name: ranks.get(name) or find_named(name, instances) for name in names}
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
        name = outcome.instance.name
        if len(outcomes) > 1:
            say(f"==> {name} <==")
        try:
            text = fleet.provisioner.console(outcome.instance)
        except ProvisionError as error:
            if not (outcome.gone or fleet.end):
                raise
            # Most platforms keep no console of what they have terminated.
            print_warning(f"the console of `{name}` is gone: {error.message}")
            continue
        if not text:
            say(f"the console of {name} is empty{'' if outcome.gone else ' so far'}", err=True)
        text += "\n" if text and not text.endswith("\n") else ""
        if raw:
            write(text.encode(errors="replace"))
        else:
            say(text, nl=False)
