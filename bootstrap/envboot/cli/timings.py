"""What a launch took, step by step: a table for people, a document for programs."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from envboot.cli import console
from envboot.fleet.reports import StageError
from envboot.text import one_line

if TYPE_CHECKING:
    from envboot.fleet.launch import Launched
    from envboot.fleet.outcomes import Outcome

COLUMNS = 4
"""With more instances than this, the table shows minimum, median and maximum."""


def stages(outcome: Outcome) -> dict[str, float]:
    """Return what the instance spent on each stage, in seconds, as it measured itself."""
    seconds: dict[str, float] = {}
    for stage in outcome.result.stages if outcome.result else ():
        seconds[stage.stage] = seconds.get(stage.stage, 0) + stage.ms / 1000
    if seconds:
        seconds["ready"] = sum(seconds.values())
    if command := outcome.reports.command:
        seconds["command"] = command.ms / 1000
    if publish := outcome.reports.publish:
        seconds["publish"] = publish.ms / 1000
    return seconds


def errors(outcome: Outcome) -> list[StageError]:
    """Return what went wrong on the instance and was mended, or did not matter to it."""
    found = list(outcome.result.errors) if outcome.result else []
    if (publish := outcome.reports.publish) and publish.error is not None:
        found.append(StageError(stage="publish", error=publish.error))
    return found


def describe(outcome: Outcome) -> dict[str, Any]:
    """Return what every JSON document of ours says of an instance's boot; times in seconds."""
    result, command = outcome.result, outcome.reports.command
    return {
        "outcome": result.outcome if result else None,
        "source": result.source if result else None,
        "errors": [error.to_dict() for error in errors(outcome)],
        "notes": list(result.notes) if result else [],
        "stages": {name: round(value, 4) for name, value in stages(outcome).items()},
        "exit_code": command.exit_code if command else None,
    }


def to_document(launched: Launched) -> dict[str, Any]:
    """Return the launch as `--json` prints it; times are in seconds."""
    scan = launched.prepared.scan
    return {
        "launch": launched.launch,
        "prefix": scan.interpreter.prefix if scan else None,
        "environment": launched.prepared.manifest.environment_digest,
        "base": launched.prepared.manifest.base_digest,
        "expires": f"{launched.expiry.end:%Y-%m-%dT%H:%M:%SZ}" if launched.expiry else None,
        "steps": {name: round(value, 4) for name, value in launched.steps.items()},
        "instances": [
            {
                "name": outcome.instance.name,
                **describe(outcome),
                "output": command.output if (command := outcome.reports.command) else None,
                "root": str(outcome.instance.root) if launched.kept else None,
            }
            for outcome in launched.outcomes
        ],
        "notes": [{"subject": note.subject, "message": note.message} for note in launched.notes],
    }


def summarize(launched: Launched) -> str:
    """Return the outcome in a line, and a line for each thing that went wrong on the way."""
    return "\n".join([_tell_outcome(launched), *_tell_troubles(launched)])


def _tell_outcome(launched: Launched) -> str:
    outcomes = launched.outcomes
    kinds = [outcome.result.outcome if outcome.result else "?" for outcome in outcomes]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds), reverse=True))
    sources = sorted({outcome.source or "?" for outcome in outcomes})
    text = f"{counts} from {' and '.join(sources)}"
    columns = [stages(outcome) for outcome in outcomes]
    ready = [column["ready"] for column in columns if "ready" in column]
    command = [column["command"] for column in columns if "command" in column]
    if ready:
        text += f" in {show_seconds(max(ready))}"
    if command:
        text += f", command {show_seconds(max(command))}"
    return f"launch {launched.launch}: {text}, in all {show_seconds(console.find_age())}"


def _tell_troubles(launched: Launched) -> list[str]:
    outcomes = launched.outcomes
    lines = [
        f"  went wrong: {error.stage}: {error.error}"
        for error in [error for outcome in outcomes for error in errors(outcome)][:10]
    ]
    said = {note for outcome in outcomes if outcome.result for note in outcome.result.notes}
    lines += [f"  printed while installing: {one_line(note)}" for note in sorted(said)[:10]]
    if launched.expiry and launched.expiry.is_short:
        lines.append(f"  signed URLs live {launched.expiry}")
    return lines


def show_seconds(seconds: float) -> str:
    """Return `0.3 s`, `4 min 10 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def render(launched: Launched) -> str:
    """Return the table: steps on this machine, then stages on the instances, in seconds."""
    outcomes = launched.outcomes
    lines = [_tell_outcome(launched), "", "  on this machine"]
    lines += [
        f"    {name:<10} {value:7.2f} s" for name, value in launched.steps.items() if name != "wait"
    ]
    lines.append(f"    {'in all':<10} {console.find_age():7.2f} s, instances included")
    columns = [stages(outcome) for outcome in outcomes]
    names = list(dict.fromkeys(name for column in columns for name in column))
    if len(outcomes) <= COLUMNS:
        heads = [str(number) for number in range(len(outcomes))]
        rows = {name: [column.get(name) for column in columns] for name in names}
    else:
        heads = ["min", "median", "max"]
        rows = {
            name: [shape([c[name] for c in columns if name in c]) for shape in (min, median, max)]
            for name in names
        }
    label = "instance " if len(outcomes) > 1 else ""
    lines += ["", "  on the instances" if len(outcomes) > 1 else "  on the instance"]
    if label:
        lines.append(" " * 15 + "".join(f"{head:>8}  " for head in heads))
    for name, values in rows.items():
        cells = "".join(f"{value:8.2f} s" if value is not None else " " * 10 for value in values)
        lines.append(f"    {name:<10}{' ' if label else ''}{cells}")
    lines += _tell_troubles(launched)
    return "\n".join(line.rstrip() for line in lines)
