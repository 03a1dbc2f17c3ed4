"""One word for what an instance is doing, from what it reported and what its platform says."""

from __future__ import annotations

from typing import Any

import pytest

from envboot.fleet.outcomes import PUBLISHING, Outcome, find_progress
from envboot.fleet.phases import Phase, find_phase
from envboot.fleet.reports import Reports, parse_report
from envboot_provisioners import Instance, State

PENDING = State(alive=True, word="pending")
RUNNING = State(alive=True, word="running")
GONE = State(alive=False, word="terminated")
READY = {"outcome": "ready", "source": "archive"}
INSTALLED = {"outcome": "ready", "source": "install"}
STAGE = {"stage": "install: uv", "done": 0, "total": 0}
PACKING = {"stage": "publish", "done": 777_000_000, "total": 2_620_000_000}
ENDED = {"why": "max-life", "text": "its time was over"}


def ended(code: int) -> dict[str, Any]:
    return {"exit_code": code, "ms": 1, "offset": 0, "end": 0, "output": ""}


def make_outcome(state: State | None, **documents: dict[str, Any]) -> Outcome:
    found = {event: parse_report(event, document) for event, document in documents.items()}
    reports = Reports(
        events=tuple(found),
        times={event: 1000 + number for number, event in enumerate(found)},
        **{event: report for event, report in found.items() if report is not None},
    )
    return Outcome(instance=Instance(name="i-1", launch="one"), reports=reports, state=state)


@pytest.mark.parametrize(
    ("phase", "state", "documents"),
    [
        (Phase.PENDING, PENDING, {}),
        (Phase.BOOTING, RUNNING, {}),
        (Phase.FETCHING, RUNNING, {"started": {}}),
        (Phase.INSTALLING, RUNNING, {"started": {}, "stage": STAGE}),
        (Phase.RUNNING, RUNNING, {"started": {}, "result": READY}),
        (Phase.PUBLISHING, RUNNING, {"result": INSTALLED, "command": ended(0)}),
        (Phase.PUBLISHING, RUNNING, {"result": INSTALLED, "command": ended(1)}),
        (Phase.DONE, RUNNING, {"result": INSTALLED, "command": ended(0), "publish": {"ms": 1}}),
        (Phase.DONE, RUNNING, {"result": READY, "command": ended(0)}),
        (Phase.DONE, GONE, {"result": READY, "command": ended(0)}),
        (Phase.FAILED, RUNNING, {"result": READY, "command": ended(3)}),
        (Phase.FAILED, GONE, {"result": INSTALLED, "command": ended(-9)}),
        (Phase.FAILED, RUNNING, {"result": {"outcome": "failed"}}),
        (Phase.TERMINATING, State(alive=False, word="shutting-down"), {"result": READY}),
        (Phase.TERMINATING, State(alive=False, word="STOPPING"), {}),
        (Phase.TERMINATED, GONE, {"result": READY, "ended": ENDED}),
        (Phase.LOST, GONE, {"result": READY}),
        (Phase.LOST, GONE, {}),
        # Nobody can be asked: what it said last.
        (Phase.RUNNING, None, {"result": READY}),
    ],
)
def test_an_instance_is_in_one_state(
    phase: Phase, state: State | None, documents: dict[str, Any]
) -> None:
    outcome = make_outcome(state, **documents)
    assert find_phase(outcome, command=True, is_over=False).phase is phase


def test_of_a_launch_that_is_over_nothing_is_lost() -> None:
    for state in (GONE, None):
        seen = find_phase(make_outcome(state, result=READY), command=True, is_over=True)
        assert seen.phase is Phase.TERMINATED


def test_without_a_command_an_instance_is_ready_since_its_result() -> None:
    seen = find_phase(
        make_outcome(RUNNING, started={}, result=INSTALLED), command=False, is_over=False
    )
    assert (seen.phase, seen.since) == (Phase.READY, 1001)


def test_done_is_not_said_while_it_publishes() -> None:
    outcome = make_outcome(RUNNING, result=INSTALLED, command=ended(0), stage=PACKING)
    assert find_progress(outcome) == (PUBLISHING, 777_000_000, 2_620_000_000)
    outcome = make_outcome(RUNNING, result=INSTALLED, command=ended(0))
    assert find_progress(outcome)[0] == PUBLISHING
