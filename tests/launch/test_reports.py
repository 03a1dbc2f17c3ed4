from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import DocumentError
from envboot.fleet.reports import BootResult, OutputPiece, ReportReader, parse_report
from envboot.store.local.store import LocalStore

if TYPE_CHECKING:
    from pathlib import Path

RESULT: dict[str, Any] = {
    "outcome": "degraded",
    "source": "install",
    "instance": "one-0",
    "environment": "sha256:" + "1" * 64,
    "base": "sha256:" + "2" * 64,
    "stages": [{"stage": "probe", "ms": 3, "bytes": 0, "source": None}],
    "errors": [{"stage": "fetch", "error": "no"}],
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(f"file://{tmp_path}/bucket")


def put(store: LocalStore, name: str, document: Any) -> None:
    store.create(f"reports/{name}.json", json.dumps(document).encode())


def make_result(source: str) -> dict[str, Any]:
    return {**RESULT, "source": source}


def make_piece(offset: int, text: str) -> dict[str, Any]:
    return {"offset": offset, "end": offset + len(text), "text": text}


def test_of_each_event_the_newest_report_counts_and_output_is_kept_in_order(
    store: LocalStore,
) -> None:
    put(store, "one/one-0/1764000000001-result", make_result("install"))
    put(store, "one/one-0/1764000000009-result", make_result("archive"))
    put(store, "one/one-0/1764000000007-output", make_piece(5, "b"))
    put(store, "one/one-0/1764000000003-output", make_piece(0, "a"))
    put(store, "one/one-1/1764000000003-started", {"environment": "sha256:1"})
    put(store, "one/one-1/unfinished", "not a report")
    put(store, "one/launch", "not read")
    put(store, "other/other-0/1764000000003-result", "not read")
    reader = ReportReader(store, "one")
    for _ in range(2):
        found = reader.read()
        assert found.keys() == {"one-0", "one-1"}
        assert found["one-0"].events == ("result", "output")
        assert found["one-0"].result
        assert found["one-0"].result.source == "archive"
        assert [each.text for each in found["one-0"].output] == ["a", "b"]
        assert found["one-1"].events == ("started",)
        assert found["one-1"].result is None
        # What was read is not read again.
        store.delete("reports/one/one-0/1764000000009-result.json")


@pytest.mark.parametrize(
    ("event", "document"),
    [
        ("result", "{"),
        ("result", "[]"),
        ("result", "null"),
        ("result", json.dumps({**RESULT, "stages": {}})),
        ("result", json.dumps({**RESULT, "errors": [{"stage": "fetch"}]})),
        ("command", json.dumps({"exit_code": "0"})),
        ("output", json.dumps({"offset": 0, "end": "1", "text": "a"})),
        ("output", json.dumps([0, 1, "a"])),
        ("synced", json.dumps({"ms": 3})),
        ("notice", json.dumps({"notice": 1, "time": ""})),
        ("publish", "\ufffd"),
    ],
)
def test_a_report_that_no_agent_wrote_is_left_out_and_named(
    store: LocalStore, event: str, document: str
) -> None:
    put(store, "one/one-0/1764000000001-started", {})
    key = f"reports/one/one-0/1764000000002-{event}.json"
    store.create(key, document.encode())
    reader = ReportReader(store, "one")
    for _ in range(2):
        assert reader.read()["one-0"].events == ("started",)
        assert reader.malformed == [key]


def test_a_newer_agent_may_say_more() -> None:
    result = parse_report("result", {**RESULT, "gpus": 2})
    assert isinstance(result, BootResult)
    assert (result.outcome, result.stages[0].ms, result.errors[0].error) == ("degraded", 3, "no")
    piece = parse_report("output", {**make_piece(0, "a"), "stream": "stderr"})
    assert piece == OutputPiece(offset=0, end=1, text="a")
    assert parse_report("told-by-a-newer-agent", {"anything": 1}) is None


def test_a_malformed_report_says_where() -> None:
    with pytest.raises(DocumentError, match=r"Expected `stages\[0\].ms`"):
        parse_report("result", {**RESULT, "stages": [{"stage": "probe"}]})
