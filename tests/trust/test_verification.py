"""`envboot store verify`: a base is installed again, and every file of the archive compared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from envboot.agent import pack, tar
from envboot.errors import GuestError, StoreError, UsageError
from envboot.fleet.verification import Verified, find_all, find_target, verify
from envboot.manifest import Manifest
from envboot.publish import upload
from envboot.publish.archive_comparison import Difference, compare_archive
from envboot.publish.archive_index import ArchiveIndex
from envboot.publish.layout import Keys
from envboot.publish.trust import find_policy
from envboot.store.local.store import LocalStore
from tests.agent.conftest import parts, published
from tests.agent.guests import SITE, Guest, Parts, make_manifest
from tests.keys import allow
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.session import Session
    from tests.keys import Signer

__all__ = ["parts", "published"]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """A trusted machine: its session, and a bucket in which a machine has published."""

    session: Session
    store: LocalStore
    manifest: Manifest

    @property
    def keys(self) -> Keys:
        """Where the base is."""
        return Keys(self.manifest)

    def verify(self, **options: Any) -> Verified:
        """Verify the base on this machine."""
        return verify(
            self.manifest,
            self.store,
            find_policy(self.session),
            **options,
        )


@pytest.fixture
def desk(parts: Parts, published: Guest, tmp_path: Path, ana: Signer) -> Desk:
    """The bucket has what `published` put there."""
    bucket = tmp_path / "bucket"
    shutil.copytree(published.root.with_suffix(".bucket"), bucket)
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "UV_DEFAULT_INDEX": parts.index,
        "UV_PYTHON_DOWNLOADS": "never",
        "ENVBOOT_TRUST": "signed",
        "ENVBOOT_ALLOWED_SIGNERS": str(allow(tmp_path / "signers", [ana.line()])),
    }
    session = make_session(
        folder=tmp_path, cache=tmp_path / "cache", state=tmp_path / "state", environment=variables
    )
    store = LocalStore(f"file://{bucket}")
    return Desk(session=session, store=store, manifest=make_manifest(parts))


def test_an_honest_archive_is_the_same_and_signed(desk: Desk, ana: Signer) -> None:
    with desk.store:
        found = desk.verify(key=str(ana.key))
        assert found.differences == ()
        assert found.signature
        assert desk.store.find(found.signature)
        assert not found.signed_before
    # Nothing of the installation stays.
    left = {path.name for path in desk.session.state.iterdir()}
    assert left == {"local", "trust"}
    assert not list((desk.session.state / "local").iterdir())


def test_a_cache_that_a_command_has_changed_makes_no_poisoned_archive_right(
    desk: Desk, published: Guest, tmp_path: Path, ana: Signer
) -> None:
    """What `launch local` installs are hard links to uv's cache: a command can write to both."""

    def change(tree: Path) -> None:
        (tree / SITE / "alpha.py").write_text("import os\n")

    cache = tmp_path / "cache/uv"
    variables = {**desk.session.environment, "UV_CACHE_DIR": str(cache)}
    wheel = find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "once")
    subprocess.run([*wheel, "alpha"], env=variables, check=True)
    for file in cache.rglob("alpha.py"):
        file.write_text("import os\n")
    desk = replace(desk, session=replace(desk.session, environment=variables))
    with desk.store:
        poison(desk, published, tmp_path, change)
        found = desk.verify(key=str(ana.key))
    assert [each.path for each in found.differences] == [f"{SITE}/alpha.py"]


def poison(desk: Desk, published: Guest, folder: Path, change: Callable[[Path], None]) -> None:
    """Publish an archive that was packed from a changed tree."""
    tree = folder / "tree"
    shutil.copytree(published.env.resolve(), tree, symlinks=True)
    change(tree)
    interpreter = desk.manifest.base.python.executable or ""
    packed = folder / "env.tar.zst"
    index = pack.write_archive(str(tree), str(packed), desk.manifest.base_digest, interpreter)
    for key in (desk.keys.archive, desk.keys.index):
        desk.store.delete(key)
    desk.store.create(desk.keys.archive, packed)
    desk.store.create(desk.keys.index, json.dumps(index).encode())


def test_a_poisoned_archive_is_told_by_its_first_file_and_never_signed(
    desk: Desk, published: Guest, tmp_path: Path, ana: Signer
) -> None:
    def change(tree: Path) -> None:
        (tree / SITE / "alpha.py").write_text("import os\n")

    with desk.store:
        poison(desk, published, tmp_path, change)
        found = desk.verify(key=str(ana.key))
        assert [each.path for each in found.differences] == [f"{SITE}/alpha.py"]
        assert found.differences[0].kind == "content"
        assert found.signature is None
        assert not list(desk.store.list(f"{desk.keys.base}/signatures/"))


def test_where_nothing_is_published_this_machines_own_goes_there_on_request(
    desk: Desk, published: Guest
) -> None:
    with desk.store:
        index = desk.store.read(desk.keys.index)
        for key in (desk.keys.index, desk.keys.archive):
            desk.store.delete(key)
        with pytest.raises(StoreError, match=r"No archive of base `sha256:.*` is published"):
            desk.verify()
        found = desk.verify(publishes=True)
        assert (found.published, found.differences) == (True, ())
        # Two installations gave the same bytes.
        assert desk.store.read(desk.keys.index) == index


def test_an_installation_that_fails_is_told_in_the_agents_words(desk: Desk) -> None:
    environment = {**desk.session.environment, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    failing = replace(desk, session=replace(desk.session, environment=environment))
    with desk.store, pytest.raises(GuestError, match="Failed to install base") as error:
        failing.verify()
    assert error.value.causes[0].startswith("install: uv failed")


def test_an_archive_that_is_not_what_its_index_says_is_an_error_that_names_it(desk: Desk) -> None:
    with desk.store as store:
        data = store.read(desk.keys.archive) or b""
        store.delete(desk.keys.archive)
        store.create(desk.keys.archive, data[::-1])
        with pytest.raises(
            StoreError, match=r"Failed to compare `http.*/env.tar.zst` with"
        ) as error:
            desk.verify()
    assert error.value.causes == ("the frame at byte 0 is not what its index says",)
    assert error.value.hint
    assert f"envboot store rm {desk.store.url} {desk.keys.index}" in error.value.hint


def test_what_cannot_be_installed_here_is_refused(desk: Desk) -> None:
    base = replace(desk.manifest.base, platform="linux-aarch64")
    foreign = replace(desk, manifest=Manifest(base=base))
    with pytest.raises(UsageError, match=r"here: it is for `linux-aarch64`"):
        foreign.verify()
    python = replace(desk.manifest.base.python, executable="/nowhere/python")
    other = replace(desk, manifest=Manifest(base=replace(desk.manifest.base, python=python)))
    with pytest.raises(UsageError, match=r"at `/nowhere/python`, found none"):
        other.verify()


def test_a_base_is_found_by_digest_and_name_and_without_either(desk: Desk) -> None:
    manifest, session = desk.manifest, desk.session
    with desk.store as store:
        upload(manifest, None, store, session, lasting=True)
        for digest in (manifest.base_digest, manifest.environment_digest[7:]):
            assert find_target(digest, store, session).base == manifest.base
        assert [each.base for each in find_all(store)] == [manifest.base]
        with pytest.raises(StoreError, match="was not found"):
            find_target("0" * 64, store, session)
        store.delete(desk.keys.manifest)
        store.create(desk.keys.manifest, b'{"base": {}}')
        with pytest.raises(StoreError, match="Expected the manifest of a base at"):
            find_target(manifest.base_digest, store, session)


def make_tree(folder: Path) -> Path:
    """Write a prefix with every kind of entry."""
    tree = folder / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "bin/tool").write_text("#!/bin/sh\n")
    (tree / "bin/tool").chmod(0o755)
    (tree / "data").write_bytes(b"12345")
    (tree / "link").symlink_to("data")
    # Two pieces beyond the first one.
    (tree / "large").write_bytes(os.urandom(1 << 20) * 33)
    return tree


def edit_large(tree: Path) -> None:
    with (tree / "large").open("r+b") as stream:
        stream.seek(20 << 20)
        stream.write(b"poison")


def retarget(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("large")


def replace_by_file(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").write_bytes(b"12345")


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "nothing": (lambda _: None, []),
    "content": (
        lambda tree: (tree / "data").write_bytes(b"12354"),
        ["data: content"],
    ),
    "size": (
        lambda tree: (tree / "data").write_bytes(b"123456"),
        ["data: content (expected 5 bytes, found 6 bytes)"],
    ),
    "a later piece": (edit_large, ["large: content"]),
    "mode": (
        lambda tree: (tree / "data").chmod(0o755),
        ["data: mode (expected 644, found 755)"],
    ),
    "directory": (
        lambda tree: (tree / "empty").chmod(0o777),
        ["empty: mode (expected 755, found 777)"],
    ),
    "link": (retarget, ["link: link (expected data, found large)"]),
    "type": (replace_by_file, ["link: type (expected link, found file)"]),
    "missing": (lambda tree: (tree / "bin/tool").unlink(), ["bin: extra", "bin/tool: missing"]),
    "extra": (lambda tree: (tree / "bin/evil").write_text("x"), ["bin/evil: extra"]),
    "open directory": (lambda tree: (tree / "bin").chmod(0o777), ["bin: extra"]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_kind_of_difference_is_named(tmp_path: Path, kind: str) -> None:
    change, wanted = CHANGES[kind]
    tree = make_tree(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(tree, other, symlinks=True)
    change(other)
    served = tmp_path / "served"
    served.mkdir()
    document = pack.write_archive(str(other), str(served / "a"), "sha256:" + "0" * 64, level=1)
    index = ArchiveIndex.from_dict(document)
    with LocalStore(f"file://{served}") as store:
        store.create("archive", served / "a")
        found = compare_archive(store.sign_get("archive", 60), index, tree)
    assert [str(each) for each in found] == wanted


def test_an_entry_that_is_there_twice_and_a_piece_in_another_place_are_told(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "data").write_bytes(b"12345")
    entry = pack.header("data", tar.FILE, 0o644, 5) + pack.padded(b"12345")
    bad = entry + pack.header("data", tar.FILE, 0o644, 5) + pack.padded(b"evil!")
    for content, piece, wanted in (
        (entry, None, []),
        (bad, None, ["data: extra"]),
        (entry, ("data", 0, 5, 0o644), ["data: content"]),
        (entry, ("data", 5, 5, 0o644), ["data: content"]),
        (entry, ("else", 0, 5, 0o644), ["else: extra"]),
    ):
        assert [str(each) for each in compare_bytes(tmp_path, tree, content, piece)] == wanted


def compare_bytes(
    folder: Path, tree: Path, content: bytes, piece: tuple[str, int, int, int] | None
) -> list[Difference]:
    """Compare a tree with an archive of a frame of entries, and perhaps one of a file's piece."""
    frames, data = [], b""
    for raw, rest in ((content, ()), *(((b"evil!", piece),) if piece else ())):
        packed = pack.compress(raw, 1)
        sha256 = hashlib.sha256(packed).hexdigest()
        frames.append([len(data), len(packed), len(raw), sha256, "", *rest])
        data += packed
    index = ArchiveIndex.from_dict(
        {
            "index_version": 1,
            "base": "",
            "size": len(data),
            "raw": 0,
            "files": 1,
            "frames": frames,
        }
    )
    with LocalStore(f"file://{folder}/bucket") as store:
        store.delete("archive")
        store.create("archive", data)
        return compare_archive(store.sign_get("archive", 60), index, tree)
