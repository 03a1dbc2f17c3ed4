"""What an instance is doing, in the words of a person, from its reports and its platform's word."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.fleet.outcomes import Outcome

_PENDING = frozenset({"pending", "PENDING", "PROVISIONING", "STAGING"})
_TERMINATING = frozenset({"shutting-down", "stopping", "STOPPING", "DEPROVISIONING"})
"""Sources: EC2 API Reference, "InstanceState"; Compute Engine, "Instance life cycle"."""


class Phase(str, Enum):
    """One word for how far an instance is.

    `failed` is one that never became ready, or whose command failed. `lost` is one that is gone
    though neither it nor a client of ours has ended it.
    """

    PENDING = "pending"
    BOOTING = "booting"
    INSTALLING = "installing"
    FETCHING = "fetching"
    READY = "ready"
    RUNNING = "running"
    PUBLISHING = "publishing"
    DONE = "done"
    FAILED = "failed"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A phase, and since when (milliseconds since 1970), where that is known."""

    phase: Phase
    since: int | None = None


def find_phase(outcome: Outcome, *, command: bool, is_over: bool) -> Seen:
    """Return what an instance is doing; `is_over` says that the launch is known to be over."""
    reports, state = outcome.reports, outcome.state
    work = _find_work(outcome, command=command)
    if state is None:
        return work if reports.command or not is_over else Seen(phase=Phase.TERMINATED)
    if state.word in _TERMINATING:
        return Seen(phase=Phase.TERMINATING)
    if state.alive:
        return work
    if reports.ended and reports.ended.why != "done":
        # Its command may have been killed with it.
        return Seen(phase=Phase.TERMINATED, since=reports.times.get("ended"))
    if reports.command or (reports.result and reports.result.outcome == "failed"):
        return work
    if outcome.instance.root and not command:
        # A process of this machine has no more to do: its files are still here.
        return work if reports.result else Seen(phase=Phase.FAILED)
    if reports.ended or reports.notice or is_over:
        since = reports.times.get("ended")
        return Seen(phase=Phase.TERMINATED, since=since)
    return Seen(phase=Phase.LOST)


def _find_work(outcome: Outcome, *, command: bool) -> Seen:
    """Return what an instance is doing by its reports, as if it still ran."""
    reports = outcome.reports
    result, times = reports.result, reports.times
    if result and result.outcome == "failed":
        return Seen(phase=Phase.FAILED, since=times.get("result"))
    if reports.command:
        if not outcome.is_done(command=True):
            # What its command has made, or what it had to install, is on its way.
            return Seen(phase=Phase.PUBLISHING, since=times.get("command"))
        phase = Phase.FAILED if reports.command.failed else Phase.DONE
        return Seen(phase=phase, since=max(times.get("command", 0), times.get("publish", 0)))
    if result:
        phase = Phase.RUNNING if command else Phase.READY
        return Seen(phase=phase, since=times.get("result"))
    if reports.events:
        stage = reports.stage.stage if reports.stage else ""
        phase = Phase.INSTALLING if stage.startswith("install") else Phase.FETCHING
        return Seen(phase=phase, since=times.get("started"))
    is_pending = outcome.state is not None and outcome.state.word in _PENDING
    return Seen(phase=Phase.PENDING if is_pending else Phase.BOOTING)
