"""`envboot why`: the story of each instance, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from envboot.cli import console, timings
from envboot.cli.launch_argument import looks_at_launch, open_fleet
from envboot.fleet.outcomes import EXIT_CODES, describe_end, find_progress, find_reason
from envboot.fleet.watch import tell_end
from envboot.session import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.fleet.outcomes import Outcome
    from envboot_provisioners import Provisioner

_INDENT = "\n" + " " * 11
WORDS = {
    "ready": "The environment is ready",
    "degraded": "The environment is ready; something on the way went wrong and was mended",
    "failed": "The environment could not be made",
}


@click.command("why")
@looks_at_launch
@click.argument("instances", nargs=-1, metavar="[INSTANCE…]")
def command(*, launch: str | None, store: str | None, instances: tuple[str, ...]) -> None:
    """Tell the story of each instance of LAUNCH: what happened, what went wrong, and why.

    Without LAUNCH, the newest that was made from here. It asks the bucket and the platform;
    nothing is asked of the machine itself.
    """
    from envboot.cli.commands.logs import choose

    with open_fleet(launch, store, open_session()) as fleet:
        outcomes = choose(fleet.look(), instances)
        lines = [f"launch {fleet.launch}: {len(outcomes)} of {max(fleet.count, len(outcomes))}"]
        if fleet.end:
            lines.append(tell_end(fleet))
        for outcome in outcomes:
            # No machine's words begin a line, where they would look like ours.
            told = (re.sub(r"\n(?! )", _INDENT, line) for line in tell(fleet.provisioner, outcome))
            lines += ["", *told]
    console.say("\n".join(lines))


def tell(provisioner: Provisioner | None, outcome: Outcome) -> Iterator[str]:
    """Yield what is known of one instance, a line each."""
    instance, state, result = outcome.instance, outcome.state, outcome.result
    details = " ".join(f"{name} {value}" for name, value in instance.details.items())
    yield f"{instance.name}  {details}".rstrip()
    if state:
        yield f"  state    {state.word}" + (f": {state.reason}" if state.reason else "")
    stages = timings.stages(outcome)
    if result:
        source = f", from {result.source}" if result.source else ""
        words = WORDS.get(result.outcome, result.outcome)
        yield f"  outcome  {words} ({stages.get('ready', 0):.2f} s{source})"
    else:
        yield f"  outcome  none yet: {find_progress(outcome)[0]}"
    for error in timings.errors(outcome):
        yield f"  error    {error.stage}: {error.error}"
    if notice := outcome.reports.notice:
        yield f"  notice   {notice.notice} at {notice.time}"
    if command := outcome.reports.command:
        if command.error is not None:
            yield f"  command  did not start: {command.error}"
        meaning = EXIT_CODES.get(command.exit_code)
        yield f"  command  {describe_end(command.exit_code)} after {command.ms / 1000:.1f} s"
        if meaning:
            yield f"           {meaning}"
        if command.exit_code:
            yield f"           `envboot logs {instance.launch} {instance.name}` shows its output"
    if (outcome.failed and not (result and result.errors)) or (not result and outcome.gone):
        yield f"  console  {find_reason(provisioner, outcome)}"
