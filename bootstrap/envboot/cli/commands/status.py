"""`envboot status`: how the instances of a launch are, from anywhere."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console, timings
from envboot.cli.launch_argument import JSON, looks_at_launch, open_fleet
from envboot.documents import plain
from envboot.fleet.life import find_moved_end, format_time, parse_time, show_end
from envboot.fleet.outcomes import find_progress
from envboot.fleet.phases import find_phase
from envboot.fleet.watch import tell_end
from envboot.session import open_session
from envboot.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.phases import Seen
    from envboot.fleet.watch import Fleet

HEAD = ("INSTANCE", "STATE", "SINCE", "FROM", "READY", "EXIT", "ADDRESS")


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
        moved = None if fleet.end else find_moved_end(fleet.store, fleet.launch)
        if moved is not None:
            fleet.ends = format_time(moved)
    if as_json:
        console.print_json(to_document(fleet, outcomes))
    else:
        console.say("\n".join(render(fleet, outcomes)))
    if fleet.unseen and not fleet.end:
        raise fleet.unseen


def render(fleet: Fleet, outcomes: Sequence[Outcome], now: datetime | None = None) -> list[str]:
    """Return what is known of the launch, and the table, a line an instance."""
    now = now or datetime.now(timezone.utc)
    maker = f" of `{fleet.provisioner.name}`" if fleet.provisioner else ""
    count = console.count(max(fleet.count, len(outcomes)), "instance")
    title = f"launch {fleet.launch}: {count}{maker}"
    if len(outcomes) < fleet.count:
        title += f", {len(outcomes)} seen"
    if fleet.end:
        title += f"; {tell_end(fleet)}"
    elif fleet.ends:
        end = parse_time(fleet.ends)
        left = f"ends in {show_end(end, now)}" if end else "never ends by itself"
        title += f"; {left}"
    lines = [title]
    if fleet.about and fleet.about.command:
        lines.append(f"command: {one_line(shlex.join(fleet.about.command)):.70}")
    if outcomes:
        rows = [HEAD, *(show_row(fleet, outcome, now) for outcome in outcomes)]
        lines += ["", *console.columns(rows)]
    for outcome in outcomes:
        lines += [f"  {outcome.instance.name}: {text}" for text in _remarks(outcome)]
    return lines


def show_row(fleet: Fleet, outcome: Outcome, now: datetime) -> tuple[str, ...]:
    """Return the cells of one instance, as `HEAD` names them."""
    stages, command = timings.stages(outcome), outcome.reports.command
    seen = _find_phase(fleet, outcome)
    since = console.age(now.timestamp() - seen.since / 1000) if seen.since else "-"
    return (
        outcome.instance.name,
        seen.phase.value,
        since,
        outcome.source or "-",
        f"{stages['ready']:.1f} s" if "ready" in stages else "-",
        str(command.exit_code) if command else "-",
        outcome.instance.details.get("address", "-"),
    )


def _find_phase(fleet: Fleet, outcome: Outcome) -> Seen:
    return find_phase(outcome, command=fleet.command, is_over=bool(fleet.end))


def _remarks(outcome: Outcome) -> list[str]:
    """Return what a table has no room for: why an instance ends or ended, how far it is."""
    reports, remarks = outcome.reports, []
    if reports.notice:
        remarks.append(f"{reports.notice.notice} at {reports.notice.time}")
    if reports.ended:
        remarks.append(f"ended itself: {reports.ended.text}")
    elif outcome.state and outcome.state.reason:
        remarks.append(outcome.state.reason)
    stage, done, total = find_progress(outcome)
    if total:
        remarks.append(f"{stage}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
    return [one_line(text) for text in remarks]


def to_document(fleet: Fleet, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what `--json` prints."""
    about = fleet.about
    return {
        "launch": fleet.launch,
        "provisioner": about.provisioner if about else None,
        "store": fleet.store.url,
        "environment": about.environment if about else None,
        "base": about.base if about else None,
        "command": list(about.command) if about and about.command else None,
        "count": fleet.count,
        "place": plain(about.place) if about else None,
        "unseen": fleet.unseen.causes[0] if fleet.unseen else None,
        "ends": fleet.ends,
        "end": plain(fleet.end),
        "instances": [_describe(fleet, outcome) for outcome in outcomes],
    }


def _describe(fleet: Fleet, outcome: Outcome) -> dict[str, Any]:
    seen, state = _find_phase(fleet, outcome), outcome.state
    return {
        "name": outcome.instance.name,
        "state": seen.phase.value,
        "since": format_time(seen.since // 1000) if seen.since else None,
        "platform_state": state.word if state else None,
        "reason": state.reason if state else None,
        "stage": find_progress(outcome)[0],
        **timings.describe(outcome),
        "notice": plain(outcome.reports.notice),
        "ended": plain(outcome.reports.ended),
        "details": dict(outcome.instance.details),
    }
