"""What commands printed, put together from what instances reported of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envboot.cli.progress import Screen
from envboot.fleet.outcomes import Outcome
from envboot.fleet.output import Output, join_pieces
from envboot.fleet.reports import Reports, collect_reports, parse_report
from envboot_provisioners import Instance


def piece(data: bytes, start: int, end: int) -> dict[str, Any]:
    return {"offset": start, "end": end, "text": data[start:end].decode()}


def ended(data: bytes, start: int) -> dict[str, Any]:
    end = {"offset": start, "end": len(data), "output": data[start:].decode()}
    return {**end, "exit_code": 0, "ms": 1}


def collect(*pieces: dict[str, Any], end: dict[str, Any] | None = None) -> Reports:
    documents = [("output", each) for each in pieces] + ([("command", end)] if end else [])
    return collect_reports((event, parse_report(event, each)) for event, each in documents)


@given(st.text("ab\n", max_size=40), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 40))
def test_every_byte_is_shown_once_however_the_reports_come(
    text: str, cuts: list[int], tail: int
) -> None:
    data = text.encode()
    edges = sorted({0, *(cut for cut in cuts if cut < len(data))})
    pieces = [piece(data, a, b) for a, b in pairwise(edges)]
    instance = Instance(name="i-1", launch="a")
    output, shown = Output(), b""
    for count in range(len(pieces) + 1):
        outcome = Outcome(instance=instance, reports=collect(*pieces[:count]))
        shown += output.read_new(outcome, whole_lines=False)
    start = min(tail, edges[-1])
    done = Outcome(instance=instance, reports=collect(*pieces, end=ended(data, start)))
    shown += output.read_new(done, whole_lines=False)
    assert shown == data
    assert output.read_new(done, whole_lines=False) == b""


def test_what_was_never_reported_is_counted() -> None:
    reports = collect(piece(b"0123456789", 0, 2), piece(b"0123456789", 6, 8))
    data, at = join_pieces(reports, 0)
    assert "… 4 bytes are only in the instance's journal …" in data.decode()
    assert (data.decode().split("\n")[0], data[-2:], at) == ("01", b"67", 8)


def test_a_command_that_ended_before_its_first_report_is_shown_from_its_end() -> None:
    data, _ = join_pieces(collect(end=ended(b"all of it\n", 0)), 0)
    assert data == b"all of it\n"


def test_lines_of_several_remote_instances_do_not_mix() -> None:
    instance = Instance(name="i-1", launch="a")
    output = Output()
    first, second = piece(b"one\ntwo\n", 0, 6), piece(b"one\ntwo\n", 6, 8)
    outcome = Outcome(instance=instance, reports=collect(first))
    assert output.read_new(outcome, whole_lines=True) == b"one\n"
    outcome.reports = collect(first, second)
    assert output.read_new(outcome, whole_lines=True) == b"two\n"


@pytest.mark.parametrize(("count", "many"), [(10, False), (11, True)])
def test_stages_of_many_instances_are_summed_up_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], count: int, many: bool
) -> None:
    outcomes = [
        Outcome(instance=Instance(name=f"i-{number}", launch="a")) for number in range(count)
    ]
    with Screen(quiet=False) as screen:
        screen.progress(outcomes)
        screen.progress(outcomes)
        outcomes[0].reports = collect_reports([("started", None)])
        screen.progress(outcomes)
    lines = capsys.readouterr().err.splitlines()
    if many:
        assert lines == ["11 instances: 11 starting", "11 instances: 1 started, 10 starting"]
    else:
        assert lines == [*(f"i-{number}: starting" for number in range(10)), "i-0: started"]


def test_instances_that_say_nothing_are_told_in_one_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envboot.cli.progress.SILENT", 0)
    outcomes = [Outcome(instance=Instance(name=f"i-{number}", launch="a")) for number in range(20)]
    outcomes[0].reports = collect_reports([("started", None)])
    with Screen(quiet=False) as screen:
        screen.progress(outcomes)
        screen.progress(outcomes)
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert warning.startswith("warning: `i-1`, `i-2`")
    assert "and 9 more have reported nothing for" in warning
