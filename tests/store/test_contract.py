"""What the client may expect of every kind of bucket."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from envboot.errors import StoreError
from envboot.store import open_store
from envboot.store.protocol import MalformedError
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.store.protocol import Store

ODD_KEYS = ["plain", "a/b/c.json", "with space/ü ñ 環境.txt", "a+b/%41&c=d?e#f;g'h", "~x/-_.!*()"]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_object_is_read_back_as_it_was_written(store: Store, key: str) -> None:
    assert store.create(key, b"some bytes") is True
    assert store.read(key) == b"some bytes"
    found = store.find(key)
    assert found
    assert (found.key, found.size) == (key, 10)
    assert found.modified.utcoffset() == timedelta(0)
    assert abs(datetime.now(timezone.utc) - found.modified) < timedelta(minutes=1)
    assert [each.key for each in store.list("")] == [key]


def test_an_empty_object_is_an_object(store: Store) -> None:
    assert store.create("empty", b"")
    assert store.read("empty") == b""


def test_what_is_larger_than_a_document_may_be_is_refused_unread(store: Store) -> None:
    store.create("key", b"0123456789")
    assert store.read("key", most=10) == b"0123456789"
    with pytest.raises(MalformedError, match=r"Cannot read `.*/key`: it is larger than 9 bytes"):
        store.read("key", most=9)


def test_creating_twice_keeps_the_first(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"second")
    assert store.create("key", b"first") is True
    assert store.create("key", b"second") is False
    assert store.create("key", other) is False
    assert store.read("key") == b"first"


def test_of_eight_writers_at_once_exactly_one_wins(store: Store) -> None:
    for turn in range(5):
        start = threading.Barrier(8)
        won: dict[int, bool] = {}

        def write(
            number: int,
            start: threading.Barrier = start,
            won: dict[int, bool] = won,
            key: str = f"race/{turn}",
        ) -> None:
            start.wait()
            won[number] = store.create(key, b"%d" % number * 5000)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        winners = [number for number, created in won.items() if created]
        assert len(won) == 8
        assert len(winners) == 1
        assert store.read(f"race/{turn}") == b"%d" % winners[0] * 5000


def test_what_is_not_there_is_none(store: Store) -> None:
    store.create("there/file", b"")
    assert store.find("nowhere") is None
    assert store.read("nowhere") is None
    assert store.find("there") is None
    assert store.read("there") is None


def test_objects_are_listed_in_the_order_of_their_keys(store: Store) -> None:
    keys = ["a/b", "a-b", "a.b", "a", "B", "ab", "é", "z/1", "z/10", "z/2"]
    # A file system cannot hold both `a` and `a/b`.
    keys.remove("a")
    for key in keys:
        store.create(key, b"x" * len(key))
    assert [each.key for each in store.list("")] == sorted(keys, key=str.encode)
    assert [each.key for each in store.list("z/1")] == ["z/1", "z/10"]
    assert [(each.key, each.size) for each in store.list("a/")] == [("a/b", 3)]
    assert list(store.list("nothing")) == []


def test_a_folder_is_listed_without_what_is_below_its_folders(store: Store) -> None:
    for key in ("a/b", "a/c/1", "a/c/2", "a/é/1", "a-b", "a.b/c"):
        store.create(key, b"x" * len(key))
    found = store.list_folder("a/")
    assert [(each.key, each.size) for each in found.objects] == [("a/b", 3)]
    assert found.folders == ("c", "é")
    top = store.list_folder("")
    assert ([each.key for each in top.objects], top.folders) == (["a-b"], ("a", "a.b"))
    nowhere = store.list_folder("nowhere/")
    assert (nowhere.objects, nowhere.folders) == ((), ())


def test_an_empty_bucket_lists_nothing(store: Store) -> None:
    assert list(store.list("")) == []


def test_deleting_twice_is_no_error(store: Store) -> None:
    store.create("a/b", b"x")
    store.delete("a/b")
    assert store.find("a/b") is None
    store.delete("a/b")
    store.delete("never/was")
    assert store.create("a/b", b"again")


def test_a_large_file_is_sent_whole_and_its_progress_told(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "large"
    data = os.urandom(1 << 20) * 25
    source.write_bytes(data)
    told: list[int] = []
    assert store.create("large", source, told.append)
    assert store.read("large") == data
    assert len(told) >= 10
    assert told == sorted(told)
    assert told[-1] == len(data)


def test_progress_of_bytes_is_told_too(store: Store) -> None:
    told: list[int] = []
    store.create("small", b"12345", told.append)
    assert told == [5]


def test_two_roots_do_not_see_each_other(url: str) -> None:
    with open_store(url, make_session()) as one, open_store(url + "-two", make_session()) as two:
        one.create("key", b"one")
        assert two.find("key") is None
        assert list(two.list("")) == []
        assert two.create("key", b"two")
        assert one.read("key") == b"one"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../outside",
        "a/../../outside",
        "a/./b",
        "a//b",
        "a/",
        "nul\0byte",
        "new\nline",
        ".envboot-key",
        "a/.envboot-1",
        "k" * 300,
        "k/" * 600 + "k",
        "\udcff",
    ],
)
def test_a_key_that_could_leave_the_bucket_is_refused(store: Store, key: str) -> None:
    for attempt in (
        lambda: store.find(key),
        lambda: store.read(key),
        lambda: store.create(key, b"x"),
        lambda: store.delete(key),
        lambda: store.renew(key),
        lambda: store.sign_get(key, 60),
        lambda: store.sign_put(key, 60),
        lambda: store.sign_delete(key, 60),
        lambda: store.sign_post(key + "/", 60, 10),
    ):
        with pytest.raises(StoreError, match="Cannot use the key"):
            attempt()


def test_a_file_that_cannot_be_read_is_an_error_with_the_key(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Failed to write `.*one|bucket/key`"):
        store.create("key", tmp_path / "absent")
    assert store.find("key") is None


def test_an_expiry_is_what_was_asked_for(store: Store) -> None:
    end = store.expiry(3600)
    left = (end - datetime.now(timezone.utc)).total_seconds()
    assert 3590 < left <= 3600
    assert end.utcoffset() == timedelta(0)


def test_renewing_an_object_leaves_its_content(store: Store) -> None:
    store.create("base/key", b"some bytes")
    store.renew("base/key", older=-1)
    assert store.read("base/key") == b"some bytes"


def test_renewing_what_is_not_there_makes_nothing(store: Store) -> None:
    store.renew("base/missing", older=-1)
    assert list(store.list("")) == []


def test_an_expiry_says_what_limits_it(store: Store) -> None:
    limit = store.limits(3600)
    assert (limit.limited_by, limit.known) == ("request", True)
    assert abs(limit.end - store.expiry(3600)) <= timedelta(seconds=1)


def test_a_bucket_that_is_not_there_is_refused_by_its_name(url: str, store: Store) -> None:
    store.check(signs=True)
    if url.startswith("file:"):
        return
    scheme, _, bucket = url.removesuffix("/team/one").partition("://")
    opened = open_store(f"{scheme}://{bucket}-none/team", make_session())
    with opened as none, pytest.raises(StoreError, match="Failed to find") as caught:
        none.check(signs=True)
    assert caught.value.causes == (f"Bucket `{bucket}-none` was not found",)
    assert f"`envboot store init {scheme}://{bucket}-none/team`" in str(caught.value.hint)
