"""A published archive that no machine can use is removed, or stepped around, and told of."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import StoreError
from envboot.manifest import Base, Manifest, Python
from envboot.publish import publish
from envboot.publish.bases import MAX_INDEX, heal_base, tend_base
from envboot.publish.grants import Grants, Terms
from envboot.publish.layout import Keys
from envboot.store.local.store import LocalStore
from tests.bases import make_index
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.scan.schema import Problem

pytestmark = [pytest.mark.sockets]

ARCHIVE = b"what a machine has packed"
PYTHON = Python(version="3.11.7", source="host")
MANIFEST = Manifest(base=Base(platform="linux-64", python=PYTHON, virtual_packages={}, tools={}))
KEYS = Keys(MANIFEST)
WHOLE: dict[str, Any] = json.loads(make_index(MANIFEST, ARCHIVE))
[ROW] = WHOLE["frames"]
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "an empty object": b"{}",
    "no JSON": b"\x00\xff",
    "a list": b"[]",
    "of another base": json.dumps({**WHOLE, "base": "sha256:" + "0" * 64}).encode(),
    "of another size": make_index(MANIFEST, ARCHIVE[:-1]),
    "a gap": json.dumps({**WHOLE, "frames": [[1, *ROW[1:]]]}).encode(),
    "a negative size": json.dumps(
        {**WHOLE, "frames": [[0, -1, *ROW[2:]], [-1, len(ARCHIVE) + 1, *ROW[2:]]]}
    ).encode(),
    "too few frames": json.dumps({**WHOLE, "frames": []}).encode(),
    "another sum": json.dumps({**WHOLE, "raw": len(ARCHIVE) + 1}).encode(),
    "a frame of 1 GB": json.dumps({**WHOLE, "frames": [[*ROW[:2], 1 << 30, *ROW[3:]]]}).encode(),
    "more rows than the size allows": json.dumps(
        {**WHOLE, "raw": 0, "frames": [[n, 1, 0, "", ""] for n in range(len(ARCHIVE))]}
    ).encode(),
    "another version": json.dumps({**WHOLE, "index_version": 2}).encode(),
}


class Guarded(LocalStore):
    """A bucket whose user may not delete."""

    def delete(self, key: str) -> None:
        raise StoreError(f"Cannot delete `{key}`: denied")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """An empty bucket."""
    with LocalStore(f"file://{tmp_path}/bucket") as opened:
        yield opened


def put(store: LocalStore, tmp_path: Path, told: list[Problem] | None = None) -> Grants:
    session = make_session(cache=tmp_path / "cache", environment={})
    warn = told.extend if told is not None else lambda _: None
    return publish(MANIFEST, None, store, session, Terms(launch="launch", seconds=60), warn=warn)


def test_a_whole_archive_is_pinned_and_nobody_may_write(store: LocalStore, tmp_path: Path) -> None:
    index = make_index(MANIFEST, ARCHIVE)
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, index)
    told: list[Problem] = []
    grants = put(store, tmp_path, told)
    assert grants.index
    assert grants.index.sha256 == hashlib.sha256(index).hexdigest()
    assert grants.permit is None
    assert '"put"' not in json.dumps(grants.to_dict())
    assert "PUT" not in json.dumps(grants.to_dict())
    assert not list(store.list("launches/"))
    assert told == []


def test_where_there_is_no_archive_the_right_to_publish_is_apart(
    store: LocalStore, tmp_path: Path
) -> None:
    grants = put(store, tmp_path)
    assert grants.index
    assert grants.index.sha256 is None
    assert '"put"' not in json.dumps(grants.to_dict())
    permit = json.loads(store.read("launches/launch/secrets/permit-0.json") or b"")
    assert KEYS.archive in permit["archive"]["url"]
    assert KEYS.index in permit["index"]["url"]


def test_a_document_that_is_rendered_again_has_a_permit_as_long_as_its_own(
    store: LocalStore, tmp_path: Path
) -> None:
    put(store, tmp_path)
    before = store.read("launches/launch/secrets/permit-0.json")
    session = make_session(cache=tmp_path / "cache", environment={})
    publish(MANIFEST, None, store, session, Terms(launch="launch", seconds=7200))
    assert store.read("launches/launch/secrets/permit-0.json") not in (None, before)


@pytest.mark.parametrize("index", BROKEN.values(), ids=BROKEN.keys())
def test_an_index_that_nobody_can_use_is_removed_with_its_archive(
    store: LocalStore, tmp_path: Path, index: bytes
) -> None:
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, index)
    told: list[Problem] = []
    grants = put(store, tmp_path, told)
    assert store.find(KEYS.index) is None
    assert store.find(KEYS.archive) is None
    assert grants.permit
    [problem] = told
    assert problem.subject == f"{store.url}/{KEYS.index}"
    assert problem.message.startswith("no machine can use it: ")
    assert problem.message.endswith("; it is removed, and machines publish another")


def test_an_index_without_its_archive_is_removed(store: LocalStore, tmp_path: Path) -> None:
    store.create(KEYS.index, make_index(MANIFEST, ARCHIVE))
    told: list[Problem] = []
    assert put(store, tmp_path, told).permit
    assert store.find(KEYS.index) is None
    assert "there is no archive beside it" in told[0].message


def test_an_index_of_any_size_is_not_read(store: LocalStore, tmp_path: Path) -> None:
    store.create(KEYS.archive, ARCHIVE)
    place = tmp_path / "bucket" / KEYS.index
    with place.open("wb") as file:
        file.truncate(MAX_INDEX + 1)
    told: list[Problem] = []
    put(store, tmp_path, told)
    assert f"it has {MAX_INDEX + 1:,} bytes" in told[0].message
    assert not place.exists()


def test_what_cannot_be_removed_is_stepped_around(tmp_path: Path) -> None:
    with Guarded(f"file://{tmp_path}/bucket") as store:
        store.create(KEYS.archive, ARCHIVE)
        store.create(KEYS.index, b"{}")
        told: list[Problem] = []
        grants = put(store, tmp_path, told)
    assert (grants.archive, grants.index, grants.permit) == (None, None, None)
    assert "machines install, because it cannot be removed: Cannot delete" in told[0].message


def test_looking_twice_finds_the_same(store: LocalStore) -> None:
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, b"{}")
    assert tend_base(store, KEYS, MANIFEST.base_digest).problem
    assert tend_base(store, KEYS, MANIFEST.base_digest).problem is None


def test_where_machines_could_not_remove_their_right_they_get_none(tmp_path: Path) -> None:
    with Guarded(f"file://{tmp_path}/bucket") as store:
        told: list[Problem] = []
        grants = put(store, tmp_path, told)
        assert not list(store.list("launches/"))
    assert (grants.archive, grants.permit) == (None, None)
    assert "machines install and do not publish" in told[0].message


def test_a_damaged_frame_is_removed_once_it_was_seen_here(store: LocalStore) -> None:
    store.create(KEYS.archive, ARCHIVE[:-1] + b"X")
    store.create(KEYS.index, make_index(MANIFEST, ARCHIVE))
    found = heal_base(store, KEYS, MANIFEST.base_digest, [0])
    assert found
    assert found.problem
    assert "the frame at byte 0 of its archive has sha256 `" in found.problem.message
    assert found.problem.message.endswith("; it is removed, and machines publish another")
    assert (store.find(KEYS.archive), store.find(KEYS.index)) == (None, None)
    assert tend_base(store, KEYS, MANIFEST.base_digest).is_missing


@pytest.mark.parametrize("offsets", [[0], [1], [10**14], range(1000)], ids=str)
def test_nobody_has_a_good_archive_removed_by_a_report(
    store: LocalStore, offsets: list[int]
) -> None:
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, make_index(MANIFEST, ARCHIVE))
    assert heal_base(store, KEYS, MANIFEST.base_digest, offsets) is None
    assert store.find(KEYS.index)


def test_what_is_damaged_and_cannot_be_removed_is_told(tmp_path: Path) -> None:
    with Guarded(f"file://{tmp_path}/bucket") as store:
        store.create(KEYS.archive, ARCHIVE[:-1] + b"X")
        store.create(KEYS.index, make_index(MANIFEST, ARCHIVE))
        found = heal_base(store, KEYS, MANIFEST.base_digest, [0])
        assert found
        assert found.blocked
        assert found.problem
        assert "machines install, because it cannot be removed" in found.problem.message


def test_what_is_replaced_or_gone_by_then_is_left_alone(store: LocalStore) -> None:
    assert heal_base(store, KEYS, MANIFEST.base_digest, [0]) is None
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, b"{}")
    assert heal_base(store, KEYS, MANIFEST.base_digest, [0]) is None
    assert store.find(KEYS.index)
