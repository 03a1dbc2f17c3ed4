"""Indexes that anyone may have written, and files here that must not be lost."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import DocumentError, StoreError
from envboot.fleet.fetching import Destination, Fetched, Fetcher, choose, put_beside
from envboot.fleet.homecoming import Home, bring_home, raise_failed
from envboot.fleet.known_files import KnownFiles, write_fetched
from envboot.fleet.results import parse_index, read_results
from envboot.store.local.store import LocalStore
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.fleet.results import ResultIndex

FOLDER = "reports/launch/results/one/"
BLOB = 4 << 20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def compose(files: dict[str, bytes], **changes: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Return an index as the agent writes it, with each file in blobs of its own."""
    blobs: list[bytes] = []
    rows = []
    for path, data in files.items():
        extents = []
        for at in range(0, len(data), BLOB):
            extents.append([len(blobs), 0, len(data[at : at + BLOB])])
            blobs.append(data[at : at + BLOB])
        rows.append([path, len(data), 0o644, 10**18, digest(data), extents])
    document = {
        "number": 1,
        "time": 1.0,
        "rank": 0,
        "blobs": [digest(blob) for blob in blobs],
        "files": rows,
        "left": {},
    }
    return {**document, **changes}, blobs


def pack(document: Any) -> bytes:
    return gzip.compress(json.dumps(document).encode(), mtime=0)


def parse(document: Any) -> ResultIndex:
    return parse_index(pack(document), instance="one", folder=FOLDER, number=1)


class Bucket(LocalStore):
    """A bucket that counts what is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read_keys: list[str] = []
        self.lock = threading.Lock()

    def read(self, key: str, *, most: int = 64 << 20) -> bytes | None:
        with self.lock:
            self.read_keys.append(key)
        return super().read(key, most=most)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with Bucket(f"file://{tmp_path}/bucket") as opened:
        yield opened


def publish(bucket: LocalStore, files: dict[str, bytes], number: int = 1) -> ResultIndex:
    document, blobs = compose(files)
    for blob in blobs:
        bucket.create(f"{FOLDER}blobs/{digest(blob)}", blob)
    bucket.create(f"{FOLDER}{number:09d}.json.gz", pack(document))
    (found,) = read_results(bucket, "launch").indexes
    assert found.number == number
    return found


def fetch(
    bucket: LocalStore, index: ResultIndex, folder: Path, known: KnownFiles | None = None
) -> Fetched:
    there = Destination(folder=folder, mark="launch", known=known or KnownFiles())
    found = choose(index, index.files, there)
    Fetcher(bucket, found).fetch()
    return found


def list_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_come_as_they_were(bucket: Bucket, tmp_path: Path) -> None:
    files = {"a": b"1", "b/c/d.bin": os.urandom(9_000_000), "empty": b""}
    found = fetch(bucket, publish(bucket, files), tmp_path / "here")
    assert list_files(tmp_path / "here") == files
    assert (tmp_path / "here/a").stat().st_mtime_ns == 10**18
    assert len(found.written) == 3
    assert fetch(bucket, found.index, tmp_path / "here").written == []


def test_a_program_stays_one_within_umask(bucket: Bucket, tmp_path: Path) -> None:
    document, blobs = compose({"run.sh": b"#!/bin/sh\n"})
    document["files"][0][2] = 0o755
    bucket.create(f"{FOLDER}blobs/{digest(blobs[0])}", blobs[0])
    before = os.umask(0o027)
    try:
        fetch(bucket, parse(document), tmp_path / "here")
    finally:
        os.umask(before)
    assert (tmp_path / "here/run.sh").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    "path",
    [
        *("../x", "a/../../x", "/etc/x", "a//b", ".", "", "a/.", "a\0b"),
        *(".git/hooks/x", "a/.GIT/config", "\ud800", "/".join(["d"] * 101)),
    ],
)
def test_paths_that_lead_elsewhere_make_an_index_none(path: str) -> None:
    with pytest.raises(DocumentError):
        parse(compose({path: b"1"})[0])


@pytest.mark.parametrize(
    "change",
    [
        {"files": [["a", 1, 0, 0, digest(b"1"), []]]},
        {"files": [["a", 1, 0, 0, digest(b"1"), [[0, 0, 2]]]]},
        {"files": [["a", -1, 0, 0, digest(b"1"), []]]},
        {"files": [["a", 1, 0, 0, digest(b"1"), [[1, 0, 1]]]]},
        {"files": [["a", 1, 0, 0, digest(b"1"), [[0, -1, 1]]]]},
        {"files": [["a", 2**40, 0, 0, digest(b"1"), [[0, 0, 2**40]]]]},
        {"files": [["a", 1, 0, 0, "short", [[0, 0, 1]]]]},
        {"files": [["a", 1, 0, 2**80, digest(b"1"), [[0, 0, 1]]]]},
        {"files": [["a", 1, True, 0, digest(b"1"), [[0, 0, 1]]]]},
        {"files": [["a", 0, 0, 0, digest(b""), []], ["a", 0, 0, 0, digest(b""), []]]},
        {"files": [["a", 0, 0, 0, digest(b""), []], ["a/b", 0, 0, 0, digest(b""), []]]},
        {"files": [["a", 0, 0, 0, digest(b""), []]] * 100_001},
        {"files": {"a": 1}},
        {"files": [7]},
        {"blobs": ["../../secret"]},
        {"blobs": 3},
        {"left": {"limit": [1, [3]]}},
        {"left": {"limit": "all"}},
    ],
)
def test_what_no_agent_writes_makes_an_index_none(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        parse({**compose({"a": b"1"})[0], **change})


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", gzip.compress(b"[]", mtime=0), gzip.compress(b"{" * 99_999, mtime=0)),
        *(gzip.compress(bytes(97 << 20), mtime=0), pack(compose({"a": b"1"})[0])[:-9]),
    ],
)
def test_bytes_that_are_no_index_are_none(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_index(data, instance="one", folder=FOLDER, number=1)


def test_a_damaged_newest_index_is_named_and_the_one_before_counts(bucket: Bucket) -> None:
    publish(bucket, {"a": b"1"})
    bucket.create(f"{FOLDER}000000002.json.gz", b"damaged")
    found = read_results(bucket, "launch")
    assert [index.number for index in found.indexes] == [1]
    assert found.malformed == [f"{FOLDER}000000002.json.gz"]


def test_two_instances_that_say_the_same_rank_do_not_share_a_directory(bucket: Bucket) -> None:
    for name in ("one", "two"):
        bucket.create(f"reports/launch/results/{name}/000000001.json.gz", pack(compose({})[0]))
    ranks = [index.rank for index in read_results(bucket, "launch").indexes]
    assert ranks == [0, None]
    known = read_results(bucket, "launch", known=["two", "one"]).indexes
    assert [(index.instance, index.rank) for index in known] == [("two", 0), ("one", 1)]
    only = read_results(bucket, "launch", known=["two"], only_known=True)
    assert [index.instance for index in only.indexes] == ["two"]
    assert only.malformed == ["reports/launch/results/one/"]


def test_damaged_blobs_are_named_and_nothing_of_them_appears(
    bucket: Bucket, tmp_path: Path
) -> None:
    good, lost, other = os.urandom(50), os.urandom(60), os.urandom(70)
    index = publish(bucket, {"good": good, "lost": lost, "other": other})
    blobs = tmp_path / "bucket" / FOLDER / "blobs"
    (blobs / digest(lost)).unlink()
    (blobs / digest(other)).write_bytes(os.urandom(70))
    found = fetch(bucket, index, tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir() if path.name[0] != "."] == ["good"]
    assert dict(found.failed) == {
        "lost": "a part of it is not in the bucket",
        "other": "a part of it in the bucket is not what the machine sent",
    }
    with pytest.raises(StoreError, match="Failed to fetch 2 files of results"):
        raise_failed([found])


def test_a_file_whose_parts_are_right_and_whose_digest_is_not_never_appears(
    bucket: Bucket, tmp_path: Path
) -> None:
    document, blobs = compose({"a": b"1"})
    document["files"][0][4] = digest(b"2")
    bucket.create(f"{FOLDER}blobs/{digest(blobs[0])}", blobs[0])
    found = fetch(bucket, parse(document), tmp_path / "here")
    assert found.failed == [("a", "its parts are not what the machine read")]
    assert list_files(tmp_path / "here") == {}


def test_what_was_interrupted_goes_on_where_it_was(bucket: Bucket, tmp_path: Path) -> None:
    data = os.urandom(5 * BLOB)
    index = publish(bucket, {"large": data})
    missing = tmp_path / "bucket" / FOLDER / "blobs" / digest(data[-BLOB:])
    kept = missing.read_bytes()
    missing.unlink()
    assert fetch(bucket, index, tmp_path / "here").failed
    assert list(list_files(tmp_path / "here")) == [".large.envboot-part"]
    missing.write_bytes(kept)
    bucket.read_keys.clear()
    assert not fetch(bucket, index, tmp_path / "here").failed
    assert bucket.read_keys == [f"{FOLDER}blobs/{missing.name}"]
    assert list_files(tmp_path / "here") == {"large": data}


def test_a_damaged_part_of_an_interrupted_file_is_fetched_again(
    bucket: Bucket, tmp_path: Path
) -> None:
    data = os.urandom(2 * BLOB)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/.large.envboot-part").write_bytes(os.urandom(3 * BLOB))
    assert not fetch(bucket, publish(bucket, {"large": data}), tmp_path / "here").failed
    assert list_files(tmp_path / "here") == {"large": data}


def test_a_name_as_long_as_names_may_be(bucket: Bucket, tmp_path: Path) -> None:
    names = {"n" * 255: b"1", "n" * 256: b"2"}
    found = fetch(bucket, publish(bucket, names), tmp_path / "here")
    assert list_files(tmp_path / "here") == {"n" * 255: b"1"}
    assert found.failed == [("n" * 256, "its name is too long")]


def test_windows_gets_no_names_that_mean_something_else_there(tmp_path: Path) -> None:
    index = parse(compose({"a:b": b"", "c\\d": b"", "ok/e": b"", "f.": b""})[0])
    there = Destination(folder=tmp_path, mark="launch", is_windows=True)
    found = choose(index, index.files, there)
    assert [task.file.path for task in found.written] == ["ok/e"]
    assert {why for _, why in found.failed} == {"Windows has no such names"}


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("model.pkl", "model.remote-launch.pkl"),
        ("model", "model.remote-launch"),
        (".env", ".env.remote-launch"),
        ("a.tar.gz", "a.tar.remote-launch.gz"),
    ],
)
def test_the_name_beside_keeps_its_suffix(tmp_path: Path, name: str, beside: str) -> None:
    assert put_beside(tmp_path / name, "launch").name == beside


def test_a_file_here_is_replaced_only_where_it_was_sent_or_fetched(
    bucket: Bucket, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name, text in {"sent": b"s", "edited": b"e2", "fetched": b"f", "own": b"o"}.items():
        (here / name).write_bytes(text)
    files = dict.fromkeys(("sent", "edited", "fetched", "own", "made"), b"new")
    known = KnownFiles(
        sent={"sent": digest(b"s"), "edited": digest(b"e1")}, fetched={"fetched": digest(b"f")}
    )
    found = fetch(bucket, publish(bucket, files), here, known)
    assert list_files(here) == {
        "sent": b"new",
        "edited": b"e2",
        "edited.remote-launch": b"new",
        "fetched": b"new",
        "own": b"o",
        "own.remote-launch": b"new",
        "made": b"new",
    }
    assert sorted(task.file.path for task in found.beside) == ["edited", "own"]
    # What is there already is not written again.
    assert fetch(bucket, found.index, here).written == []


def test_what_changes_while_it_is_fetched_is_not_replaced(bucket: Bucket, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "a").write_bytes(b"sent")
    index = publish(bucket, {"a": b"new"})
    there = Destination(folder=here, mark="launch", known=KnownFiles(sent={"a": digest(b"sent")}))
    found = choose(index, index.files, there)
    (here / "a").write_bytes(b"edited meanwhile")
    Fetcher(bucket, found).fetch()
    assert list_files(here) == {"a": b"edited meanwhile", "a.remote-launch": b"new"}


def test_links_here_are_not_followed(bucket: Bucket, tmp_path: Path) -> None:
    here, outside = tmp_path / "here", tmp_path / "outside"
    here.mkdir()
    outside.mkdir()
    (outside / "file").write_bytes(b"kept")
    (here / "folder").symlink_to(outside)
    (here / "link").symlink_to(outside / "file")
    (here / ".made.envboot-part").symlink_to(outside / "file")
    (here / "plain").write_bytes(b"a file where a directory shall be")
    index = publish(bucket, {"folder/file": b"1", "link": b"2", "plain/x": b"4"})
    fetch(bucket, index, here)
    assert list_files(outside) == {"file": b"kept"}
    assert (here / "folder.remote-launch/file").read_bytes() == b"1"
    assert (here / "link.remote-launch").read_bytes() == b"2"
    assert (here / "plain.remote-launch/x").read_bytes() == b"4"
    with pytest.raises(StoreError, match="Cannot write results into"):
        fetch(bucket, publish(bucket, {"made": b"3"}, 2), here)
    assert list_files(outside) == {"file": b"kept"}


def test_more_than_the_disk_has_is_refused_before_anything_is_written(
    bucket: Bucket, tmp_path: Path
) -> None:
    blob = bytes(BLOB)
    document, _ = compose({"a": b"1"})
    extents = [[0, 0, BLOB]] * 1_000_000
    rows = [[f"f{i}", BLOB * len(extents), 0, 0, digest(b"1"), extents] for i in range(1)]
    index = parse({**document, "blobs": [digest(blob)], "files": rows * 1})
    with pytest.raises(StoreError, match=r"Cannot fetch 4,194\.3 GB into"):
        fetch(bucket, index, tmp_path / "here")


def test_the_next_launch_replaces_what_this_one_brought_and_nobody_has_touched(
    bucket: Bucket, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    session = make_session(folder=here, state=tmp_path / "state")

    def come(launch: str, index: ResultIndex) -> Fetched:
        return bring_home(bucket, Home(launch=launch, session=session, is_single=True), index)

    come("first", publish(bucket, {"model.pkl": b"1"}))
    come("second", publish(bucket, {"model.pkl": b"22"}, 2))
    assert list_files(here) == {"model.pkl": b"22"}
    (here / "model.pkl").write_bytes(b"mine")
    come("third", publish(bucket, {"model.pkl": b"333"}, 3))
    assert list_files(here) == {"model.pkl": b"mine", "model.remote-third.pkl": b"333"}
    write_fetched(tmp_path / "state", here, [("other", digest(b""))])
    come("third", publish(bucket, {"model.pkl": b"4444"}, 4))
    assert list_files(here) == {"model.pkl": b"mine", "model.remote-third.pkl": b"4444"}
