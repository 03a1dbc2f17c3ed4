"""`envboot wait`: until the instances of a launch are ready, or done."""

from __future__ import annotations

import click

from envboot.cli import console
from envboot.cli.commands import status
from envboot.cli.launch_argument import JSON, looks_at_launch, open_fleet, takes_timeout
from envboot.cli.progress import Screen
from envboot.session import open_session


@click.command("wait")
@looks_at_launch
@click.option(
    "--for",
    "goal",
    type=click.Choice(["ready", "done"]),
    help="What to wait for.  [default: `done` where there is a command, else `ready`]",
)
@takes_timeout(
    "How long to wait.  [default: half an hour to be ready; the command as long as it likes]"
)
@JSON
def command(
    *, launch: str | None, store: str | None, goal: str | None, timeout: float | None, as_json: bool
) -> None:
    """Wait until every instance of LAUNCH is ready, or has done what it was started for.

    Without LAUNCH, the newest that was made from here. Nothing is ended; the exit code tells
    whether an instance, or its command, failed.
    """
    from envboot.fleet.outcomes import raise_command_failures, raise_failures
    from envboot.fleet.watch import Goal, wait

    with (
        open_fleet(launch, store, open_session(), warns=False) as fleet,
        Screen(quiet=as_json) as screen,
    ):
        if fleet.unseen and not fleet.end:
            # One that has ended without a word would be waited for.
            raise fleet.unseen
        wanted = Goal(goal) if goal else Goal.DONE if fleet.command else Goal.READY
        outcomes = wait(fleet, wanted, timeout=timeout, looker=screen)
    if as_json:
        console.print_json(status.to_document(fleet, outcomes))
    else:
        console.say("\n".join(status.render(fleet, outcomes)))
    raise_failures(
        fleet.provisioner, outcomes, hint=f"`envboot why {fleet.launch}` tells all that is known"
    )
    if wanted is Goal.DONE and fleet.command:
        raise_command_failures(outcomes)
