"""What commands printed: put together from pieces in the bucket, and printed as it was."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envboot.cli.commands.logs import parse_since
from envboot.cli.printer import Printer, View
from envboot.cli.progress import Screen
from envboot.errors import CommandError, StoreError, UsageError
from envboot.fleet.outcomes import Outcome, find_exit_code, raise_command_failures
from envboot.fleet.output import HEAD, OutputReader, OutputRecord, Stream, parse_records
from envboot.fleet.reports import collect_reports, parse_report
from envboot.publish.layout import key_output
from envboot.store.local.store import LocalStore
from envboot_provisioners import Instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARN = "arn:aws:ec2:eu-north-1:123456789012:instance/i-1"


def pack(*records: tuple[int, int, bytes]) -> bytes:
    return b"".join(HEAD.pack(stream, ms, len(data)) + data for stream, ms, data in records)


def make_outcome(
    name: str = "i-1", *, rank: int | None = None, pieces: int | None = None, code: int = 0
) -> Outcome:
    documents: list[tuple[str, Any]] = []
    if rank is not None:
        documents.append(("seated", {"rank": rank, "count": 9}))
    if pieces is not None:
        documents.append(("command", {"exit_code": code, "ms": 1, "pieces": pieces}))
    reports = collect_reports((event, parse_report(event, each)) for event, each in documents)
    return Outcome(instance=Instance(name=name, launch="a"), reports=reports)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(f"file://{tmp_path}/bucket") as opened:
        yield opened


def read(reader: OutputReader, *outcomes: Outcome) -> dict[str, bytes]:
    return {
        outcome.instance.name: b"".join(record.data for record in records)
        for outcome, records in reader.read_new(outcomes)
    }


@settings(max_examples=50)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6), st.integers(0, 200))
def test_a_piece_is_read_to_its_last_whole_record(data: bytes, cuts: list[int], end: int) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [data[i:j] for i, j in pairwise(edges)]
    packed = pack(*((1, 5, part) for part in parts))
    first, at = parse_records(packed[:end])
    rest, last = parse_records(packed, at)
    assert b"".join(record.data for record in first + rest) == data
    assert last == len(packed)


@pytest.mark.parametrize("owner", ["i-1", ARN])
def test_pieces_are_read_once_and_in_order_wherever_the_machine_writes(
    store: LocalStore, owner: str
) -> None:
    reader = OutputReader(store, "a")
    for number in range(1, 4):
        store.create(key_output("a", owner, number), pack((1, number, b"%d\n" % number)))
        assert read(reader, make_outcome()) == {"i-1": b"%d\n" % number}
        assert read(reader, make_outcome()) == {}
    # More than one look reads at once.
    for number in range(4, 20):
        store.create(key_output("a", owner, number), pack((2, number, b"%d\n" % number)))
    done, found = make_outcome(pieces=19), b""
    while not reader.is_complete(done):
        found += read(reader, done).get("i-1", b"")
    assert found == b"".join(b"%d\n" % number for number in range(4, 20))


def test_a_long_history_is_listed_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    list_keys = store.list

    def count(prefix: str) -> Any:
        listed.append(prefix)
        return list_keys(prefix)

    monkeypatch.setattr(store, "list", count)
    reader = OutputReader(store, "a")
    for number in range(1, 9):
        store.create(key_output("a", "i-1", number), pack((1, number, b"x")))
        assert read(reader, make_outcome()) == {"i-1": b"x"}
    assert len(listed) == 1


def test_a_bucket_that_fails_loses_nothing_and_repeats_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("i-1", "i-2"):
        for number in (1, 2):
            store.create(key_output("a", name, number), pack((1, 1, b"%d" % number)))
    read_key = store.read

    def fail(key: str, *, most: int) -> bytes | None:
        if key.endswith("i-1/000000002.bin"):
            raise StoreError("away")
        return read_key(key, most=most)

    reader, outcomes = OutputReader(store, "a"), (make_outcome("i-1"), make_outcome("i-2"))
    found = {"i-1": b"", "i-2": b""}
    monkeypatch.setattr(store, "read", fail)
    news = reader.read_new(outcomes)
    for _ in outcomes:
        outcome, records = next(news)
        found[outcome.instance.name] += b"".join(record.data for record in records)
    with pytest.raises(StoreError):
        next(news)
    assert found == {"i-1": b"1", "i-2": b"12"}
    monkeypatch.setattr(store, "read", read_key)
    assert read(reader, *outcomes) == {"i-1": b"2"}


def test_what_is_lost_is_said_and_what_follows_is_read(store: LocalStore) -> None:
    for number in (1, 4):
        store.create(key_output("a", "i-1", number), pack((1, number, b"%d\n" % number)))
    reader, found = OutputReader(store, "a"), b""
    # A machine may claim to have written any number.
    done = make_outcome(pieces=10**9)
    while not reader.is_complete(done):
        found += read(reader, done).get("i-1", b"")
    assert found == (
        b"1\npieces 2 to 3 of the output are not in the bucket\n4\n"
        b"pieces 5 to 1000000000 of the output are not in the bucket\n"
    )


def test_what_is_no_piece_ends_where_it_stops_being_one(store: LocalStore) -> None:
    store.create(key_output("a", "i-1", 1), pack((1, 1, b"good")) + b"\xff" * 100)
    store.create(key_output("a", "i-1", 2), HEAD.pack(1, 1, 2**32 - 1) + b"short")
    store.create(key_output("a", "i-1", 3), b"")
    store.create(key_output("a", "i-1", 4), b"x" * (9 << 20))
    store.create(key_output("a", "i-1", 5), pack((2, 2**63, b"last")))
    reader, found = OutputReader(store, "a"), b""
    done = make_outcome(pieces=5)
    while not reader.is_complete(done):
        found += read(reader, done).get("i-1", b"")
    assert found == b"goodlast"


def test_the_piece_that_an_instance_here_is_writing_is_read_at_once(
    store: LocalStore, tmp_path: Path
) -> None:
    spool = tmp_path / "root/var/lib/envboot/output"
    spool.mkdir(parents=True)
    outcome = Outcome(instance=Instance(name="i-1", launch="a", root=tmp_path / "root"))
    reader, piece = OutputReader(store, "a"), spool / "000000001.open"
    one, two = pack((1, 1, b"one")), pack((1, 2, b"two"))
    piece.write_bytes(one + two[:4])
    assert read(reader, outcome) == {"i-1": b"one"}
    piece.write_bytes(one + two)
    assert read(reader, outcome) == {"i-1": b"two"}
    # It is uploaded between two looks.
    store.create(key_output("a", "i-1", 1), one + two + pack((1, 3, b"three")))
    piece.unlink()
    (spool / "000000002.open").write_bytes(pack((2, 4, b"four")))
    assert read(reader, outcome) == {"i-1": b"threefour"}


def show(
    capfdbinary: pytest.CaptureFixture[bytes], view: View, *records: OutputRecord, label: str = ""
) -> tuple[bytes, bytes]:
    printer, outcome = Printer(view), make_outcome(rank=3, pieces=1)
    for record in records:
        printer.print_records(outcome, [record], label)
    printer.finish(outcome, label)
    return tuple(capfdbinary.readouterr())  # type: ignore[return-value]


OUT, ERR = Stream.STDOUT, Stream.STDERR
MIXED = (
    OutputRecord(OUT, 1000, b"a\x00\xff"),
    OutputRecord(ERR, 2000, b"warn"),
    OutputRecord(OUT, 3000, b"b\r\nlast"),
    OutputRecord(ERR, 4000, b"ing\n"),
)


def test_a_pipe_gets_the_bytes_of_each_stream(capfdbinary: Any) -> None:
    assert show(capfdbinary, View(), *MIXED) == (b"a\x00\xffb\r\nlast", b"warning\n")


def test_a_terminal_gets_what_it_would_obey_spelled_out(
    capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envboot.cli.console.is_terminal", lambda *, err=False: True)
    records = [
        OutputRecord(OUT, 1, part) for part in (b"\x1b[31mna\xc3", b"\xafve \xff 1 %\r2 %\r\n")
    ]
    assert show(capfdbinary, View(), *records)[0].decode() == "\\x1b[31mnaïve \\xff 1 %\n2 %\n"
    raw = show(capfdbinary, View(raw=True), *records)[0]
    assert raw == b"\x1b[31mna\xc3\xafve \xff 1 %\r2 %\r\n"


def test_of_several_instances_whole_lines_have_their_ranks(capfdbinary: Any) -> None:
    out, err = show(capfdbinary, View(), *MIXED, label="[3] ")
    assert out == b"[3] a\x00\xffb\r\n[3] last\n"
    assert err == b"[3] warning\n"


def test_lines_are_searched_timed_and_told_apart(capfdbinary: Any) -> None:
    assert show(capfdbinary, View(stream=ERR), *MIXED) == (b"", b"warning\n")
    assert show(capfdbinary, View(grep=re.compile(b"^la")), *MIXED) == (b"last\n", b"")
    out, _ = show(capfdbinary, View(timestamps=True, stream=OUT), *MIXED)
    assert out.startswith(b"1970-01-01T00:00:03.000Z a\x00\xffb\r\n")
    out, err = show(capfdbinary, View(as_json=True), *MIXED, OutputRecord(ERR, 2**63, b"x\n"))
    documents = [json.loads(line) for line in out.splitlines()]
    assert err == b""
    assert documents[1] == {
        "time": "1970-01-01T00:00:04.000Z",
        "instance": "i-1",
        "rank": 3,
        "stream": "stderr",
        "text": "warning",
    }
    assert documents[0]["base64"] == "YQD/Yg0="
    assert documents[2]["time"] == "?"


def test_since_is_a_duration_or_a_time() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
    assert parse_since("10m", now) == int(1000 * now.timestamp()) - 600_000
    assert parse_since("2026-11-30T11:00:00Z", now) == int(1000 * now.timestamp()) - 3_600_000
    with pytest.raises(UsageError, match="Expected a duration"):
        parse_since("yesterday", now)


def test_older_than_since_is_left_out_without_being_read(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        store.create(key_output("a", "i-1", number), pack((1, 5, b"old"), (1, 2**41, b"new")))
    assert read(OutputReader(store, "a", since=6), make_outcome()) == {"i-1": b"newnew"}
    monkeypatch.setattr(
        store, "read", lambda key, most: pytest.fail(key) if "1.bin" in key else b""
    )
    assert read(OutputReader(store, "a", since=2**50), make_outcome()) == {}


@pytest.mark.parametrize(
    ("code", "wanted"), [(1, 1), (17, 17), (-15, 143), (-9, 137), (256, 255), (-1000, 104)]
)
def test_a_signal_is_an_exit_code_as_shells_have_it(code: int, wanted: int) -> None:
    assert find_exit_code(code) == wanted
    assert 0 < find_exit_code(code) < 256


def test_the_first_that_failed_by_rank_gives_the_exit_code() -> None:
    outcomes = [
        make_outcome("a", rank=2, pieces=0, code=7),
        make_outcome("b", rank=0, pieces=0),
        make_outcome("c", rank=1, pieces=0, code=-15),
    ]
    with pytest.raises(CommandError) as caught:
        raise_command_failures(outcomes)
    assert caught.value.exit_code == 143
    with pytest.raises(CommandError) as caught:
        raise_command_failures([make_outcome("d", rank=0), *outcomes])
    assert caught.value.exit_code == 117


@pytest.mark.parametrize(("count", "many"), [(10, False), (11, True)])
def test_stages_of_many_instances_are_summed_up_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], count: int, many: bool
) -> None:
    outcomes = [
        Outcome(instance=Instance(name=f"i-{number}", launch="a")) for number in range(count)
    ]
    with Screen() as screen:
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
    with Screen() as screen:
        screen.progress(outcomes)
        screen.progress(outcomes)
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert warning.startswith("warning: `i-1`, `i-2`")
    assert "and 9 more have reported nothing for" in warning
