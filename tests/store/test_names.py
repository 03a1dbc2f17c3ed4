"""Published environments in every kind of bucket."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from envboot.errors import StoreError
from envboot.manifest import Base, CondaPackage, Layer, Manifest, Project, Python, Wheel
from envboot.publish import environments, publish, upload
from envboot.publish.environments import (
    ATTEMPTS,
    MEMBERS,
    Published,
    fetch_manifest,
    find_environment,
    list_names,
    list_versions,
    publish_environment,
    read_versions,
)
from envboot.publish.grants import Terms, grant
from envboot.publish.layout import Keys
from envboot.store.local.store import LocalStore
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.protocol import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LAYER = Layer(digest=f"sha256:{'1' * 64}", projects=(Project(name="mine", version="1.0"),))


def make_manifest(version: str = "1.0", layer: Layer | None = None) -> Manifest:
    return Manifest(
        base=Base(
            platform="linux-64",
            python=Python(version="3.11.7", source="host", executable="/usr/bin/python3"),
            virtual_packages={"__glibc": "2.28"},
            wheels=(Wheel(name="demo", version=version, sha256="0" * 64),),
            tools={},
        ),
        layer=layer,
    )


def put(store: Store, cache: Path, manifest: Manifest, name: str = "demo") -> Published:
    kept = None
    if manifest.layer:
        cache.mkdir(exist_ok=True)
        kept = cache / "layer.tar.zst"
        kept.write_bytes(b"layer")
    session = make_session(cache=cache, state=cache / "state", environment={"USER": "ana"})
    return publish_environment(name, manifest, kept, store, session, now=NOW)


def test_each_environment_gets_the_next_version_and_the_same_one_none(
    store: Store, tmp_path: Path
) -> None:
    one, two = make_manifest("1.0", LAYER), make_manifest("2.0")
    first = put(store, tmp_path, one)
    assert first.is_new
    publisher = first.document.pop("publisher")
    assert publisher.startswith("ana@")
    assert first.document == {
        "name": "demo",
        "version": 1,
        "environment": one.environment_digest,
        "base": one.base_digest,
        "platform": "linux-64",
        "python": "3.11.7",
        "packages": 1,
        "projects": [{"name": "mine", "version": "1.0"}],
        "created": "2026-01-02T03:04:05Z",
    }
    assert tuple(first.document) == MEMBERS
    again = put(store, tmp_path, one)
    assert (again.document.pop("publisher"), again.is_new) == (publisher, False)
    assert again.document == first.document
    assert put(store, tmp_path, two).document["version"] == 2
    # What was the newest once is a version again: `latest` must lead to it.
    assert put(store, tmp_path, one).document["version"] == 3
    put(store, tmp_path, two, name="demo.more")
    assert list_names(store) == {"demo": [1, 2, 3], "demo.more": [1]}
    assert list_versions(store, "demo") == [1, 2, 3]
    shown, _, _ = read_versions(store, [("demo", 3), ("demo", 2)], make_session())
    assert [each["environment"] for each in shown] == [
        one.environment_digest,
        two.environment_digest,
    ]
    assert tuple(shown[0]) == (*MEMBERS, "publisher")
    for reference, version, manifest in (
        ("demo", 3, one),
        ("demo@latest", 3, one),
        ("demo@2", 2, two),
        ("demo@1", 1, one),
    ):
        document, found = find_environment(store, reference, make_session())
        assert (document["version"], found) == (version, manifest)


def test_more_than_nine_versions_are_in_order(store: Store, tmp_path: Path) -> None:
    for number in range(11):
        put(store, tmp_path, make_manifest(f"{number}"))
    assert list_versions(store, "demo") == list(range(1, 12))
    assert find_environment(store, "demo", make_session())[1] == make_manifest("10")


def test_of_two_that_publish_at_once_each_gets_a_version_of_its_own(
    store: Store, tmp_path: Path
) -> None:
    start, found = threading.Barrier(4), []

    def run(number: int) -> None:
        start.wait()
        found.append(put(store, tmp_path, make_manifest(f"{number}")).document)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(document["version"] for document in found) == [1, 2, 3, 4]
    assert {document["version"]: document["environment"] for document in found} == {
        each["version"]: each["environment"]
        for each in read_versions(
            store, [("demo", version) for version in (1, 2, 3, 4)], make_session()
        )[0]
    }


class Crowded(LocalStore):
    """A bucket in which somebody else is always faster."""

    def create(
        self, key: str, data: bytes | Path, progress: Callable[[int], None] | None = None
    ) -> bool:
        return not key.startswith("names/") and super().create(key, data, progress)


def test_who_is_never_the_first_is_told_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(environments, "time", SimpleNamespace(sleep=waits.append))
    with pytest.raises(StoreError, match="Failed to publish `demo`: others took each version"):
        put(Crowded(f"file://{tmp_path}/crowded"), tmp_path, make_manifest())
    assert len(waits) == ATTEMPTS
    assert sum(waits) < 10


def test_what_is_not_there_is_an_error_that_names_what_is(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Environment `demo` was not found in") as none:
        find_environment(store, "demo@3", make_session())
    assert none.value.causes == ("Nothing is published there",)
    put(store, tmp_path, make_manifest(), name="team-gpu")
    put(store, tmp_path, make_manifest("2"), name="team-gpu")
    put(store, tmp_path, make_manifest(), name="other")
    with pytest.raises(StoreError, match="Environment `team-gpus` was not found") as near:
        find_environment(store, "team-gpus", make_session())
    assert near.value.causes == ("Published are `team-gpu`",)
    assert near.value.hint == "Publish it with `envboot env publish team-gpus`"
    with pytest.raises(StoreError, match="`far` was not found") as far:
        find_environment(store, "far", make_session())
    assert far.value.causes == ("Published are `other`, `team-gpu`",)
    with pytest.raises(StoreError, match="Environment `team-gpu@7` was not found") as version:
        find_environment(store, "team-gpu@7", make_session())
    assert version.value.causes == ("There is `team-gpu@2`, `team-gpu@1`",)
    with pytest.raises(StoreError, match=r"Environment `sha256:a+` was not found"):
        fetch_manifest(store, f"sha256:{'a' * 64}")


@pytest.mark.parametrize("written", [b"", b"[]", b"no json", b'{"name": "demo", "version": 2}'])
def test_a_document_that_envboot_did_not_write_is_refused(store: Store, written: bytes) -> None:
    store.create("names/demo/00000001.json", written)
    store.create("names/demo/notes.txt", b"not looked at")
    with pytest.raises(StoreError, match=r"Expected a published environment at `names/demo/0+1"):
        find_environment(store, "demo", make_session())


def test_a_layer_that_was_published_serves_short_and_long_launches_elsewhere(
    store: Store, tmp_path: Path
) -> None:
    manifest = make_manifest("1.0", LAYER)
    put(store, tmp_path, manifest)
    long = f"environments/{manifest.environment_digest[7:]}.tar.zst"
    assert [each.key for each in store.list("layers/")] == []
    assert store.read(long) == b"layer"
    # As of a machine that never had the layer.
    for seconds, key in ((600, f"layers/{'1' * 64}.tar.zst"), (2 * 86400, long)):
        grants = publish(
            manifest,
            None,
            store,
            make_session(cache=tmp_path, environment={}),
            Terms(launch="l", seconds=seconds),
        )
        assert grants.layer
        assert key in grants.layer.get
        assert store.read(key) == b"layer"
    store.delete(long)
    upload(manifest, None, store, make_session(cache=tmp_path, environment={}), lasting=True)
    assert store.read(long) == b"layer"


def test_uploading_needs_no_launch_and_granting_writes_nothing(
    store: Store, tmp_path: Path
) -> None:
    manifest = make_manifest()
    uploaded = upload(
        manifest, None, store, make_session(cache=tmp_path, environment={}), lasting=False
    )
    before = [each.key for each in store.list("")]
    assert not any(key.startswith(("reports/", "names/")) for key in before)
    for launch in ("one", "two"):
        terms = Terms(launch=launch, seconds=60)
        grants = grant(
            manifest,
            store,
            terms,
            agent_sha256="0" * 64,
            private=uploaded.private,
            base=uploaded.base,
        )
        assert grants.launch == launch
        assert grants.packages is None
    assert [each.key for each in store.list("")] == before


def test_packages_that_only_the_publisher_had_a_login_for_are_granted_from_the_bucket(
    store: Store, tmp_path: Path
) -> None:
    package = CondaPackage(url="https://conda.example/p/noarch/a-1-0.conda", sha256="0" * 64)
    bare = make_manifest()
    manifest = replace(bare, base=replace(bare.base, conda=(package,)))
    for there in (False, True):
        uploaded = upload(
            manifest, None, store, make_session(cache=tmp_path, environment={}), lasting=True
        )
        assert uploaded.private is there
        store.create(Keys(manifest).packages, b"of whoever had a login")
