from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from envboot.cli.commands.status import render, to_document
from envboot.cli.commands.why import tell
from envboot.cli.console import to_json
from envboot.cli.timings import describe
from envboot.errors import DocumentError
from envboot.fleet.outcomes import Outcome
from envboot.fleet.output import OutputReader
from envboot.fleet.reports import BootResult, ReportReader, parse_report
from envboot.fleet.watch import Fleet
from envboot.store.local.store import LocalStore
from envboot_provisioners import Instance

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


def test_of_each_event_the_newest_report_counts(store: LocalStore) -> None:
    put(store, "one/events/one-0/1764000000001-result", make_result("install"))
    put(store, "one/events/one-0/1764000000009-result", make_result("archive"))
    put(store, "one/events/one-0/1764000000003-seated", {"rank": 4, "count": 5})
    put(store, "one/events/one-1/1764000000003-started", {"environment": "sha256:1"})
    put(store, "one/events/one-1/unfinished", "not a report")
    put(store, "one/launch", "not read")
    put(store, "other/events/other-0/1764000000003-result", "not read")
    reader = ReportReader(store, "one")
    for _ in range(2):
        found = reader.read()
        assert found.keys() == {"one-0", "one-1"}
        assert found["one-0"].events == ("result", "seated")
        assert found["one-0"].result
        assert found["one-0"].result.source == "archive"
        assert found["one-0"].seated
        assert found["one-0"].seated.rank == 4
        assert found["one-1"].events == ("started",)
        assert found["one-1"].result is None
        # What was read is not read again.
        store.delete("reports/one/events/one-0/1764000000009-result.json")


@pytest.mark.parametrize(
    ("event", "document"),
    [
        ("result", "{"),
        ("result", "[]"),
        ("result", "null"),
        ("result", json.dumps({**RESULT, "stages": {}})),
        ("result", json.dumps({**RESULT, "errors": [{"stage": "fetch"}]})),
        ("command", json.dumps({"exit_code": "0"})),
        ("command", json.dumps({"exit_code": 0, "ms": 1, "pieces": "1"})),
        ("seated", json.dumps({"rank": "0"})),
        ("synced", json.dumps({"ms": 3})),
        ("notice", json.dumps({"notice": 1, "time": ""})),
        ("publish", "\ufffd"),
        ("publish", "[" * 100_000),
        # As deep as it can be parsed, and then is to be shown.
        ("result", '{"outcome": ' + "[" * 800 + "]" * 800 + "}"),
        ("result", '{"outcome": ' + '{"a":' * 400 + "1" + "}" * 400 + "}"),
        ("publish", json.dumps({"ms": 10**400})),
        ("publish", '{"ms": ' + "9" * 10_000 + "}"),
        ("publish", '{"ms": NaN}'),
        ("publish", '{"ms": 1e999}'),
        ("publish", '{"ms": 1.0}'),
        ("publish", json.dumps({"ms": True})),
        ("command", json.dumps({"exit_code": None, "ms": 1})),
        ("synced", json.dumps({"number": 2**63})),
        ("notice", json.dumps({"notice": [], "time": {}})),
        ("publish", json.dumps({"ms": 1, "error": 2})),
        ("result", ""),
        ("result", "\0" * 100),
        ("result", '"' + "x" * (5 << 20) + '"'),
    ],
    ids=lambda value: value[:30],
)
def test_a_report_that_no_agent_wrote_is_left_out_and_named(
    store: LocalStore, event: str, document: str
) -> None:
    put(store, "one/events/one-0/1764000000001-started", {})
    key = f"reports/one/events/one-0/1764000000002-{event}.json"
    store.create(key, document.encode())
    reader = ReportReader(store, "one")
    for _ in range(2):
        assert reader.read()["one-0"].events == ("started",)
        assert reader.malformed == [key]


@pytest.mark.parametrize(
    ("event", "document"),
    [
        ("command", {"exit_code": 2**62, "ms": -1, "pieces": -(2**62), "output": "x"}),
        ("command", {"exit_code": -(2**62), "ms": 1, "pieces": 2**62, "output": "\ud800\x1b"}),
        ("seated", {"rank": -(2**62)}),
        (
            "result",
            {**RESULT, "outcome": "\udcff", "stages": [{"stage": "", "ms": -(2**62)}] * 999},
        ),
        ("notice", {"notice": "", "time": "\ud800", "exit_code": -(2**62)}),
    ],
)
def test_whatever_parses_can_be_shown(store: LocalStore, event: str, document: Any) -> None:
    put(store, f"one/events/one-0/1764000000001-{event}", document)
    reports = ReportReader(store, "one").read()["one-0"]
    outcome = Outcome(instance=Instance(name="one-0", launch="one"), reports=reports)
    to_json(describe(outcome))
    assert list(tell(None, outcome))
    fleet = Fleet(launch="one", store=store, provisioner=None, command=True)
    assert all(isinstance(line, str) for line in render(fleet, [outcome]))
    to_json(to_document(fleet, [outcome]))
    assert len(list(OutputReader(store, "one").read_new([outcome]))) <= 1


def test_a_name_that_no_instance_has_is_left_out(store: LocalStore, tmp_path: Path) -> None:
    for name in ("\u202eone", "\x1b[2J", "one\ntwo"):
        path = tmp_path / "bucket/reports/one/events" / name / "1764000000001-started.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    put(store, "one/events/a/b/1764000000001-started", {})
    reader = ReportReader(store, "one")
    assert reader.read() == {}


def test_what_is_too_large_for_a_report_is_not_read(store: LocalStore, tmp_path: Path) -> None:
    put(store, "one/events/one-0/1764000000001-started", {})
    path = tmp_path / "bucket/reports/one/events/one-0/1764000000002-result.json"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    tracemalloc.start()
    reader = ReportReader(store, "one")
    assert reader.read()["one-0"].events == ("started",)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert reader.malformed == ["reports/one/events/one-0/1764000000002-result.json"]


def test_a_newer_agent_may_say_more() -> None:
    result = parse_report("result", {**RESULT, "gpus": 2})
    assert isinstance(result, BootResult)
    assert (result.outcome, result.stages[0].ms, result.errors[0].error) == ("degraded", 3, "no")
    assert parse_report("told-by-a-newer-agent", {"anything": 1}) is None


def test_a_malformed_report_says_where() -> None:
    with pytest.raises(DocumentError, match=r"Expected `stages\[0\].ms`"):
        parse_report("result", {**RESULT, "stages": [{"stage": "probe"}]})
