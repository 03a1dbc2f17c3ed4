"""`envboot-agent verify`: the disk against what was activated."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import wire
from tests.agent.guests import (
    SITE,
    Launch,
    find_signer,
    make_launch,
    make_layer,
    make_manifest,
    want,
)
from tests.docs.pages import REFERENCE, read_rows, read_section
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.manifest import Manifest
    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Parts

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
MINE = f"{SITE}/mine.py"


def verify(guest: Guest) -> tuple[int, dict[str, Any]]:
    process = guest.start("verify", "--json")
    printed, _ = process.communicate(timeout=60)
    document: dict[str, Any] = json.loads(printed)
    return process.returncode, document


@pytest.fixture
def layered(hit: Launch, parts: Parts, store: LocalStore, tmp_path: Path) -> Launch:
    """A launch whose archive is in the bucket, with a layer that replaces a file of it."""
    del hit
    files = {MINE: b"NAME = 'mine'\n", f"{SITE}/beta.py": b"NAME = 'theirs'\n"}
    manifest, layer = make_layer(make_manifest(parts), tmp_path / "made", files)
    return make_launch(parts, store, tmp_path / "cache", manifest=manifest, layer=layer)


def test_an_untouched_environment_differs_in_nothing(layered: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("one", layered)
    assert guest.boot() == wire.READY
    code, document = verify(guest)
    assert (code, document["differences"]) == (0, [])
    assert document["environment"] == layered.manifest.environment_digest
    assert document["files"] > 30


def test_a_machine_that_published_is_compared_with_its_own_archive(
    launch: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("one", launch)
    assert guest.boot() == wire.READY
    code, document = verify(guest)
    assert (code, [*document]) == (2, ["error"])
    assert "neither fetched nor published" in document["error"]
    assert guest.publish() == wire.READY
    assert verify(guest)[0] == 0


def test_a_machine_that_never_had_an_environment_says_so(
    layered: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("one", layered)
    for name in ("config", "grants", "manifest"):
        (guest.state / f"{name}.json").unlink()
    code, document = verify(guest)
    assert (code, document) == (2, {"error": "no environment was activated on this machine"})


def test_every_difference_is_named_with_its_package(layered: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("one", layered)
    assert guest.boot() == wire.READY
    site = guest.env.resolve() / SITE
    # The same size and time as before.
    text = (site / "alpha.py").read_text()
    times = (site / "alpha.py").stat()
    (site / "alpha.py").write_text(text.replace("alpha", "aIpha"))
    os.utime(site / "alpha.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    (site / "gamma.py").unlink()
    (site / "mine.py").write_bytes(b"NAME = 'other'\n")
    (site / "beta.py").chmod(0o4755)
    (site / "new").mkdir()
    (site / "new/evil.py").touch()
    python = guest.env.resolve() / "bin/python"
    python.unlink()
    python.symlink_to("/bin/true")
    code, document = verify(guest)
    assert code == 1
    members = {f"differences[].{name}" for each in document["differences"] for name in each}
    told = read_rows(read_section(REFERENCE, "`envboot-agent verify --json`"))
    assert told.keys() == members | (document.keys() - {"differences"}) | {"error"}
    found = {each.pop("path"): each for each in document["differences"]}
    assert found == {
        "bin/python": {"kind": "changed", "what": "target"},
        f"{SITE}/alpha.py": {"kind": "changed", "what": "content", "package": "alpha"},
        f"{SITE}/beta.py": {"kind": "changed", "what": "mode", "package": "beta"},
        f"{SITE}/gamma.py": {"kind": "missing", "package": "gamma"},
        f"{SITE}/mine.py": {"kind": "changed", "what": "content"},
        f"{SITE}/new": {"kind": "extra"},
        f"{SITE}/new/evil.py": {"kind": "extra"},
    }


def test_a_link_in_the_place_of_a_directory_is_not_followed(
    layered: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("one", layered)
    assert guest.boot() == wire.READY
    site = guest.env.resolve() / SITE
    (site / "alpha-1.0.dist-info").rename(guest.root / "elsewhere")
    (site / "alpha-1.0.dist-info").symlink_to(guest.root / "elsewhere")
    code, document = verify(guest)
    assert code == 1
    paths = [each["path"] for each in document["differences"]]
    assert f"{SITE}/alpha-1.0.dist-info" in paths
    assert f"{SITE}/alpha-1.0.dist-info/RECORD" in paths


def test_an_archive_that_is_another_by_now_is_no_proof(
    layered: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    guest = new_guest("one", layered)
    assert guest.boot() == wire.READY
    archive = bucket / layered.base_key / "env.tar.zst"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    code, document = verify(guest)
    assert (code, [*document]) == (2, ["error"])
    assert "is another one" in document["error"]


def read_synced(guest: Guest) -> dict[str, Any]:
    """Return the change that a guest has finished last."""
    file = guest.state / "synced.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


class Sender:
    """Sends changes to a guest that follows them, one after another."""

    def __init__(self, parts: Parts, store: LocalStore, tmp_path: Path) -> None:
        self.parts, self.store, self.folder = parts, store, tmp_path
        self.cache = tmp_path / "cache"

    def let_follow(self, launch: Launch) -> None:
        """Have the machines of a launch look for changes."""
        first = self.store.sign_get("launches/launch/wanted-1.json", 600)
        launch.grants["wanted"] = {"get": first, "signer": find_signer("launch", self.cache)}

    def make(self, name: str, **files: bytes) -> tuple[Manifest, Path]:
        """Make a layer of modules in site-packages."""
        paths = {f"{SITE}/{module}.py": text for module, text in files.items()}
        return make_layer(make_manifest(self.parts), self.folder / name, paths)

    def send(self, guest: Guest, number: int, manifest: Manifest, layer: Path) -> dict[str, Any]:
        """Send a change, and return what the guest reports of it."""
        want(self.store, self.cache, number, manifest, layer)
        process = guest.start("sync")
        try:
            end = time.monotonic() + 60
            while (report := self.read_report(guest)).get("number") != number:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            if "error" not in report:
                while read_synced(guest).get("number") != number:
                    assert time.monotonic() < end
                    time.sleep(0.05)
        finally:
            process.terminate()
            process.communicate(timeout=10)
        return report

    def read_report(self, guest: Guest) -> dict[str, Any]:
        found: dict[str, Any] = (
            read_documents(self.store, "launch").get(guest.root.name, {}).get("synced", {})
        )
        return found


@pytest.fixture
def sender(parts: Parts, store: LocalStore, tmp_path: Path) -> Sender:
    return Sender(parts, store, tmp_path)


def test_what_was_sent_to_a_running_machine_is_compared_too(
    layered: Launch, sender: Sender, new_guest: NewGuest
) -> None:
    sender.let_follow(layered)
    guest = new_guest("one", layered)
    assert guest.boot() == wire.READY
    two, three = (
        sender.make(name, mine=text, beta=b"NAME = 'theirs'\n")
        for name, text in (("two", b"NAME = 2\n"), ("three", b"NAME = 3\n"))
    )
    # The last one is there already.
    for number, (manifest, layer) in enumerate((two, three, two), 1):
        assert "error" not in sender.send(guest, number, manifest, layer)
        code, document = verify(guest)
        assert document.get("differences") == []
        assert (code, document["environment"]) == (0, manifest.environment_digest)


def test_a_change_that_failed_keeps_nobody_from_comparing_what_is_active(
    layered: Launch, sender: Sender, new_guest: NewGuest
) -> None:
    sender.let_follow(layered)
    guest = new_guest("one", layered)
    assert guest.boot() == wire.READY
    manifest, layer = sender.make("two", mine=b"NAME = 2\n", beta=b"NAME = 'theirs'\n")
    assert "error" not in sender.send(guest, 1, manifest, layer)
    # It lacks a file of the base that the layer before it replaced.
    report = sender.send(guest, 2, *sender.make("three", mine=b"NAME = 3\n"))
    assert "would be missing" in report["error"]
    code, document = verify(guest)
    assert (code, document.get("differences")) == (0, [])
    assert document["environment"] == manifest.environment_digest
