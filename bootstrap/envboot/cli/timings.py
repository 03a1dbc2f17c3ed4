"""What a launch took, step by step: a table for people, a document for programs."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envboot.fleet.launch import Launched
    from envboot.fleet.outcomes import Outcome

COLUMNS = 4
"""With more instances than this, the table shows minimum, median and maximum."""


def stages(outcome: Outcome) -> dict[str, float]:
    """Return what the instance spent on each stage, in seconds, as it measured itself."""
    seconds: dict[str, float] = {}
    for stage in outcome.result.get("stages", ()):
        seconds[stage["stage"]] = seconds.get(stage["stage"], 0) + stage["ms"] / 1000
    if seconds:
        seconds["ready"] = sum(seconds.values())
    for event, name in (("command", "command"), ("publish", "publish")):
        if event in outcome.reports:
            seconds[name] = outcome.reports[event]["ms"] / 1000
    return seconds


def errors(outcome: Outcome) -> list[dict[str, str]]:
    """Return what went wrong on the instance and was mended, or did not matter to it."""
    publish = outcome.reports.get("publish", {})
    failed = [{"stage": "publish", "error": publish["error"]}] if "error" in publish else []
    return [*outcome.result.get("errors", ()), *failed]


def to_document(launched: Launched) -> dict[str, Any]:
    """Return the launch as `--json` prints it; times are in seconds."""
    return {
        "launch": launched.launch,
        "environment": launched.prepared.manifest.environment_digest,
        "base": launched.prepared.manifest.base_digest,
        "expires": f"{launched.expiry.end:%Y-%m-%dT%H:%M:%SZ}" if launched.expiry else None,
        "steps": {name: round(value, 4) for name, value in launched.steps.items()},
        "instances": [
            {
                "name": outcome.instance.name,
                "outcome": outcome.result.get("outcome"),
                "source": outcome.result.get("source"),
                "errors": errors(outcome),
                "stages": {name: round(value, 4) for name, value in stages(outcome).items()},
                "exit_code": outcome.reports.get("command", {}).get("exit_code"),
                "output": outcome.reports.get("command", {}).get("output"),
                "root": str(outcome.instance.root) if launched.kept else None,
            }
            for outcome in launched.outcomes
        ],
        "notes": [
            {"subject": note.subject, "message": note.message} for note in launched.prepared.notes
        ],
    }


def render(launched: Launched) -> str:
    """Return the table: steps on this machine, then stages on the instances, in seconds."""
    outcomes = launched.outcomes
    sources = {outcome.result.get("source", "?") for outcome in outcomes}
    kinds = [str(outcome.result.get("outcome", "?")) for outcome in outcomes]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds), reverse=True))
    lines = [
        f"launch {launched.launch}: {counts}, from {' and '.join(sorted(sources))}",
        "",
        "  on this machine",
    ]
    lines += [
        f"    {name:<10} {value:7.2f} s" for name, value in launched.steps.items() if name != "wait"
    ]
    lines.append(f"    {'in all':<10} {sum(launched.steps.values()):7.2f} s, instances included")
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
    lines += [
        f"  went wrong: {error['stage']}: {error['error']}"
        for error in [error for outcome in outcomes for error in errors(outcome)][:10]
    ]
    if launched.expiry and launched.expiry.is_short:
        lines += ["", f"  signed URLs live {launched.expiry}"]
    return "\n".join(line.rstrip() for line in lines)
