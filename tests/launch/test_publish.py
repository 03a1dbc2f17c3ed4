"""What the client puts into the bucket before any instance starts."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from envboot.agent.output import TAIL
from envboot.errors import StoreError, UsageError
from envboot.manifest import Base, Manifest, Python, Tool, Wheel
from envboot.publish import publish, try_url
from envboot.publish.bases import ORPHANED
from envboot.publish.grants import MAX_UPLOAD, Auth, Terms
from envboot.publish.layout import Keys
from envboot.store.local.store import LocalStore
from envboot.store.protocol import DAY
from tests.bases import make_index
from tests.index import serve_folder
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.sockets
CONTENT = b"the program"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(f"file://{tmp_path}/bucket") as opened:
        yield opened


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where the tool is published; its file is `tmp_path/tools/uv`."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "uv").write_bytes(CONTENT)
    with serve_folder(tmp_path / "tools") as served:
        yield f"{served}/uv"


def make_manifest(url: str | None = None, content: bytes = CONTENT) -> Manifest:
    sha256 = hashlib.sha256(content).hexdigest()
    tools = {"uv": Tool(version="1.0", url=url, sha256=sha256)} if url else {}
    return Manifest(
        base=Base(
            platform="linux-64",
            python=Python(version="3.11.7", source="host", executable="/usr/bin/python3"),
            virtual_packages={"__glibc": "2.28"},
            wheels=(Wheel(name="demo", version="1.0", sha256="0" * 64),),
            tools=tools,
        )
    )


def put(manifest: Manifest, store: LocalStore, cache: Path) -> dict[str, Any]:
    grants = publish(
        manifest,
        None,
        store,
        make_session(cache=cache, environment={}),
        Terms(launch="launch", seconds=600),
    )
    return grants.to_dict()


@pytest.mark.parametrize(
    ("age", "index", "stays"),
    [(1.1, False, False), (0.9, False, True), (1.1, True, True), (0.0, False, True)],
    ids=["old", "young", "old-with-an-index", "new"],
)
def test_only_an_old_archive_without_an_index_is_dropped(
    store: LocalStore, tmp_path: Path, age: float, index: bool, stays: bool
) -> None:
    keys = Keys(make_manifest())
    key = f"{keys.base}/env.tar.zst"
    store.create(key, b"archive")
    if index:
        store.create(keys.index, make_index(make_manifest(), b"archive"))
    then = time.time() - age * ORPHANED.total_seconds()
    os.utime(tmp_path / "bucket" / key, (then, then))
    put(make_manifest(), store, tmp_path / "cache")
    assert (store.find(key) is not None) == stays


def test_a_dropped_archive_can_be_published_again(store: LocalStore, tmp_path: Path) -> None:
    key = f"{Keys(make_manifest()).base}/env.tar.zst"
    store.create(key, b"of one that died")
    os.utime(tmp_path / "bucket" / key, (0, 0))
    permit = put(make_manifest(), store, tmp_path / "cache")["permit"]["get"]
    grant = json.loads(urllib.request.urlopen(permit).read())["archive"]
    request = urllib.request.Request(
        grant["url"], data=b"whole", method="PUT", headers=grant["headers"]
    )
    urllib.request.urlopen(request)
    assert store.read(key) == b"whole"


def test_a_tool_is_mirrored_once_and_kept_on_this_machine(
    store: LocalStore, tmp_path: Path, url: str
) -> None:
    manifest = make_manifest(url)
    put(manifest, store, tmp_path / "cache")
    (tmp_path / "tools" / "uv").unlink()
    grants = put(manifest, store, tmp_path / "other")
    [mirrored] = grants["tools"].values()
    assert urllib.request.urlopen(mirrored).read() == CONTENT
    with LocalStore(f"file://{tmp_path}/second") as second:
        put(manifest, second, tmp_path / "cache")
        assert second.find(f"tools/{manifest.base.tools['uv'].sha256}/uv")
    with pytest.raises(StoreError, match=r"Failed to fetch uv 1\.0 for the bucket"):
        put(manifest, LocalStore(f"file://{tmp_path}/third"), tmp_path / "other")


def test_a_tool_that_is_not_what_was_pinned_is_refused(
    store: LocalStore, tmp_path: Path, url: str
) -> None:
    manifest = make_manifest(url, b"what was pinned")
    with pytest.raises(StoreError, match=r"Expected uv 1\.0 with sha256") as caught:
        put(manifest, store, tmp_path / "cache")
    assert hashlib.sha256(CONTENT).hexdigest() in caught.value.message
    assert not list((tmp_path / "bucket").glob("tools/*/uv"))
    assert not list((tmp_path / "cache").glob("**/tools/*"))


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:9/uv", "no-url", "file:///nowhere/uv"])
def test_a_tool_that_cannot_be_had_is_an_error_with_a_hint(
    store: LocalStore, tmp_path: Path, wrong: str
) -> None:
    with pytest.raises(StoreError, match=r"Failed to fetch uv 1\.0") as caught:
        put(make_manifest(wrong), store, tmp_path / "cache")
    assert "`[tool.envboot.tools.uv]`" in (caught.value.hint or "")


def test_the_url_of_a_tool_is_shown_without_its_query(store: LocalStore, tmp_path: Path) -> None:
    secret = "http://user:hunter2@127.0.0.1:9/uv?token=hunter2"
    with pytest.raises(StoreError) as caught:
        put(make_manifest(secret), store, tmp_path / "cache")
    assert "hunter2" not in f"{caught.value.message} {caught.value.causes}"


def test_grants_read_what_is_there_and_write_what_is_not(store: LocalStore, tmp_path: Path) -> None:
    manifest = make_manifest()
    grants = put(manifest, store, tmp_path / "cache")
    assert urllib.request.urlopen(grants["manifest"]["get"]).read() == manifest.to_bytes()
    agent = urllib.request.urlopen(grants["agent"]["get"]).read()
    assert hashlib.sha256(agent).hexdigest() == grants["agent"]["sha256"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(grants["index"]["get"])
    assert "layer" not in grants
    assert grants["tools"] == {}


def test_a_report_may_be_as_large_as_the_largest_tail_of_output() -> None:
    worst = json.dumps({"output": (b"\xff" * TAIL).decode(errors="replace")})
    assert len(worst) + 1000 < MAX_UPLOAD


class Renewing(LocalStore):
    """A bucket that notes what is renewed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.renewed: list[str] = []

    def renew(self, key: str, *, older: int = DAY) -> None:
        self.renewed.append(key)


def test_a_base_that_is_whole_is_renewed_the_index_first(tmp_path: Path) -> None:
    keys = Keys(make_manifest())
    with Renewing(f"file://{tmp_path}/renewing") as store:
        put(make_manifest(), store, tmp_path / "cache")
        assert store.renewed == []
        store.create(keys.archive, b"archive")
        store.create(keys.index, make_index(make_manifest(), b"archive"))
        put(make_manifest(), store, tmp_path / "cache")
    names = ("index.json", "env.tar.zst", "manifest.json")
    assert store.renewed == [f"{keys.base}/{name}" for name in names]


def test_a_bucket_without_roles_refuses_them(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Bucket `file:///.*` knows no roles"):
        publish(
            make_manifest(),
            None,
            store,
            make_session(cache=tmp_path / "cache", environment={}),
            Terms(launch="launch", auth=Auth.ROLE, seconds=600),
        )
    assert list(store.list("")) == []


def test_a_signed_url_that_the_bucket_refuses_is_told_before_any_machine_starts(
    store: LocalStore,
) -> None:
    store.create("key", b"x")
    try_url(store.sign_get("key", 60), store.url)
    with pytest.raises(StoreError, match="by signed URLs: it refuses one") as caught:
        try_url(store.sign_get("key", -1), store.url)
    assert "AccessDenied: Request has expired" in caught.value.causes[0]
    assert "Signature" not in caught.value.causes[0]
