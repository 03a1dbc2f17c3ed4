"""`envboot attach`: come back to a launch, from any machine, and see it to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.commands import status
from envboot.cli.launch_argument import JSON, looks_at_launch, open_fleet, takes_timeout
from envboot.cli.on_done import tells_the_end
from envboot.cli.result_options import INTO, finish_launch, raise_unsent
from envboot.fleet.history import find_folder
from envboot.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.fleet.outcomes import Outcome


@click.command("attach")
@looks_at_launch
@click.option("--keep", is_flag=True, help="Leave the instances when the command has exited.")
@takes_timeout("How long to watch; the instances run on.")
@INTO
@tells_the_end
@click.option("-q", "--quiet", is_flag=True, help="Print the command's output and errors only.")
@click.option(
    "--raw",
    is_flag=True,
    help="Print the command's escape sequences, as of colours, as they are on a terminal.",
)
@JSON
def command(*, launch: str | None, store: str | None, as_json: bool, **given: Any) -> None:
    """Watch LAUNCH to its end, as the client that made it would have.

    Without LAUNCH, the newest that was made from here. Output is printed from its beginning and
    results are fetched; the instances are terminated when the command has exited, and envboot exits
    with its exit code. Ctrl-C stops watching, and nothing else.
    """
    from envboot.cli.on_done import Teller
    from envboot.cli.printer import View
    from envboot.cli.progress import Screen
    from envboot.fleet.finish import attach
    from envboot.fleet.homecoming import raise_failed
    from envboot.fleet.outcomes import raise_command_failures

    session = open_session()
    teller = Teller(session, given["on_done"], given["notify"])
    view = None if as_json else View(raw=given["raw"])
    screen = Screen(quiet=given["quiet"] or as_json, view=view, teller=teller)
    with teller.telling():
        with open_fleet(launch, store, session) as fleet:
            try:
                with screen:
                    screen.reads(fleet)
                    is_kept = given["keep"] or bool(fleet.about and fleet.about.keep)
                    outcomes = attach(fleet, timeout=given["timeout"], keep=is_kept, watcher=screen)
                    screen.flush(outcomes)
                    found = finish_launch(
                        fleet,
                        outcomes,
                        session,
                        given["into"],
                        made_in=find_folder(session.state, fleet.launch),
                        quiet=as_json or given["quiet"],
                    )
            except KeyboardInterrupt:
                console.say(
                    f"hint: `{fleet.launch}` runs on; `envboot terminate` ends it", err=True
                )
                raise
        if as_json:
            console.print_json(status.to_document(fleet, outcomes))
        elif not given["quiet"]:
            console.say(_summarize(fleet.launch, outcomes), err=True)
        if fleet.command:
            raise_command_failures(outcomes)
        raise_unsent(outcomes)
        raise_failed(found)


def _summarize(launch: str, outcomes: Sequence[Outcome]) -> str:
    from envboot.cli.timings import show_seconds

    ended = [outcome.reports.command for outcome in outcomes if outcome.reports.command]
    text = f"launch {launch}: {len(ended)} of {len(outcomes)} commands have exited"
    if ended:
        text += f", after {show_seconds(max(each.ms for each in ended) / 1000)}"
    return text
