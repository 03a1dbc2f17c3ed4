"""`envboot status`: how the instances of a launch are, from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console, timings
from envboot.cli.launch_argument import JSON, looks_at_launch, open_fleet
from envboot.documents import plain
from envboot.fleet.outcomes import describe_end, find_progress
from envboot.fleet.watch import tell_end
from envboot.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.watch import Fleet

HEAD = ("INSTANCE", "STATE", "STAGE", "FROM", "READY", "COMMAND", "")


@click.command("status")
@looks_at_launch
@JSON
def command(*, launch: str | None, store: str | None, as_json: bool) -> None:
    """Show how each instance of LAUNCH is: its state, its stage, its command.

    Without LAUNCH, the newest that was made from here. Where its platform cannot be asked from
    here, what its bucket knows is shown, and the command fails.
    """
    with open_fleet(launch, store, open_session(), warns=False) as fleet:
        outcomes = fleet.look()
    if as_json:
        console.print_json(to_document(fleet, outcomes))
    else:
        console.say("\n".join(render(fleet, outcomes)))
    if fleet.unseen and not fleet.end:
        raise fleet.unseen


def render(fleet: Fleet, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table, a line an instance."""
    maker = f" of `{fleet.provisioner.name}`" if fleet.provisioner else ""
    count = console.count(max(fleet.count, len(outcomes)), "instance")
    title = f"launch {fleet.launch}: {count}{maker}"
    if len(outcomes) < fleet.count:
        title += f", {len(outcomes)} seen"
    if fleet.end:
        title += f"; {tell_end(fleet)}"
    if not outcomes:
        return [title]
    rows = [HEAD, *(show_row(outcome) for outcome in outcomes)]
    return [title, "", *console.columns(rows)]


def show_row(outcome: Outcome) -> tuple[str, ...]:
    """Return the cells of one instance, as `HEAD` names them."""
    stages = timings.stages(outcome)
    command, notice = outcome.reports.command, outcome.reports.notice
    return (
        outcome.instance.name,
        outcome.state.word if outcome.state else "-",
        find_progress(outcome)[0],
        outcome.source or "-",
        f"{stages['ready']:.2f} s" if "ready" in stages else "-",
        describe_end(command.exit_code) if command else "-",
        " ".join([*outcome.instance.details.values(), *([notice.notice] if notice else [])]),
    )


def to_document(fleet: Fleet, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "launch": fleet.launch,
        "provisioner": fleet.about.provisioner if fleet.about else None,
        "store": fleet.store.url,
        "environment": fleet.about.environment if fleet.about else None,
        "base": fleet.about.base if fleet.about else None,
        "count": fleet.count,
        "place": plain(fleet.about.place) if fleet.about else None,
        "unseen": fleet.unseen.causes[0] if fleet.unseen else None,
        "end": plain(fleet.end),
        "instances": [
            {
                "name": outcome.instance.name,
                "state": outcome.state.word if outcome.state else None,
                "reason": outcome.state.reason if outcome.state else None,
                "stage": find_progress(outcome)[0],
                **timings.describe(outcome),
                "notice": plain(outcome.reports.notice),
                "details": dict(outcome.instance.details),
            }
            for outcome in outcomes
        ],
    }
