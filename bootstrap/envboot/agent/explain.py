"""What people type on a machine: `envboot-agent status`, `why`, `verify`, `rollback`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, List

from . import wire
from .boot import activate
from .host import Host

USAGE = "usage: envboot-agent status|why|verify|rollback [--json]\n"
WORDS = {
    "ready": "The environment is ready.",
    "degraded": "The environment is ready; something on the way went wrong and was mended.",
    "failed": "The environment could not be made.",
}


def explain(host: Host, what: str, argv: List[str]) -> int:
    """Print the state, or the story, or roll back; returns the agent's exit code for it."""
    if what not in ("status", "why", "verify", "rollback"):
        sys.stderr.write(USAGE)
        return 0 if "--help" in argv else 64
    if not os.access(host.state, os.R_OK | os.X_OK):
        sys.stderr.write(
            "envboot: Only root reads %s: `sudo envboot-agent %s`\n" % (host.state, what)
        )
        return 77
    if what == "verify":
        from .main import load

        return int(load(host, "verify").verify(host, argv))
    if what == "rollback":
        return rollback(host)
    root, state = host.root, host.state
    status, result = _read(root + "/run/envboot/status.json"), _read(state + "/result.json")
    link = root + "/opt/envboot/env"
    active = os.path.basename(os.path.realpath(link)) if os.path.exists(link) else None
    document = {"active": active, "status": status, "result": result}
    document["command"] = _read(state + "/command.json")
    document["notices"] = _read(state + "/notices.json")
    if what == "why":
        document["events"] = _events(state + "/events.jsonl")
    if "--json" in argv:
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(_status(document) + (_why(document) if what == "why" else [])))
    outcome = (result or {}).get("outcome")
    codes = {"ready": wire.READY, "degraded": wire.DEGRADED}
    return codes.get(str(outcome), wire.FAILED)


def rollback(host: Host) -> int:
    """Swap the active environment and the one before it."""
    before = host.opt + "/previous"
    if not os.path.isdir(before):
        sys.stderr.write("envboot: there is no environment before this one\n")
        return wire.FAILED
    activate(host, os.path.realpath(before))
    print("active:  %s" % os.path.basename(os.path.realpath(host.link)))
    return wire.READY


def _status(document: Any) -> List[str]:
    status, result = document["status"] or {}, document["result"]
    lines = ["active:  %s" % (document["active"] or "none yet")]
    lines.append("stage:   %s" % status.get("stage", "not started"))
    if status.get("total"):
        lines[-1] += " (%d of %d MB)" % (status["done"] >> 20, status["total"] >> 20)
    if result:
        lines.append("outcome: %s" % result["outcome"])
        if result.get("source"):
            lines[-1] += ", from " + result["source"]
    for notice, at in sorted((document["notices"] or {}).items()):
        lines.append("notice:  %s at %s" % (notice, at))
    if document["command"]:
        lines.append("command: ended with %d" % document["command"]["exit_code"])
    return lines


def _why(document: Any) -> List[str]:
    result = document["result"]
    lines = ["", WORDS[result["outcome"]] if result else "It has not finished."]
    lines += ["  %s: %s" % (e["stage"], e["error"]) for e in (result or {}).get("errors", ())]
    lines += [
        "  printed while installing: " + wire.line(note) for note in (result or {}).get("notes", ())
    ]
    return [*lines, "", *("  " + event["MESSAGE"] for event in document["events"][-40:])]


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def _events(path: str) -> List[Any]:
    events = []
    try:
        with open(path, encoding="utf-8") as stream:
            for line in stream:
                try:
                    events.append(json.loads(line))
                except ValueError:
                    # The last line of an agent that was killed while it wrote.
                    continue
    except OSError:
        pass
    return events
