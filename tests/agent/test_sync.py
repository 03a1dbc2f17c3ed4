"""Changes to a running machine: another layer in the place of the old one, whatever happens."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import wire
from envboot.agent.pack import LAYER_LIST
from envboot.agent.sync import place
from envboot.fleet.launch_key import sign
from envboot.publish.layout import key_wanted
from tests.agent.guests import (
    SITE,
    Guest,
    Launch,
    find_signer,
    make_launch,
    make_layer,
    make_manifest,
    sign_for,
    want,
)
from tests.agent.trees import snapshot
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from envboot.manifest import Manifest
    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Parts

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
KILLS = 40


class Client:
    """Who launches machines and changes them."""

    def __init__(self, parts: Parts, store: LocalStore, folder: Path) -> None:
        self.parts = parts
        self.store = store
        self.folder = folder
        self.made = 0

    def layer(self, *, listed: bool = True, **modules: str) -> tuple[Manifest, Path]:
        """Make a layer of modules: name to text, `a__b` for `a/b.py`."""
        self.made += 1
        paths = {f"{SITE}/{name.replace('__', '/')}.py": text for name, text in modules.items()}
        files = {path: text.encode() for path, text in paths.items()}
        folder = self.folder / f"layer-{self.made}"
        folder.mkdir(parents=True)
        return make_layer(make_manifest(self.parts), folder, files, listed=listed)

    def launch(self, manifest: Manifest, layer: Path, *, seconds: int = 600) -> Launch:
        """Publish what machines begin with, and what they are to follow."""
        cache = self.folder / "cache"
        launch = make_launch(self.parts, self.store, cache, manifest=manifest, layer=layer)
        first = self.store.sign_get(key_wanted("launch", 1), seconds)
        launch.grants["wanted"] = {"get": first, "signer": find_signer("launch", cache)}
        return launch

    def want(self, number: int, manifest: Manifest, layer: Path | None, **other: Any) -> None:
        """Send a change."""
        want(self.store, self.folder / "cache", number, manifest, layer, **other)

    def write(self, number: int, document: dict[str, Any], *, key: str = "cache") -> None:
        """Write a document, signed with the launch's key or with the one beside another cache."""
        session = sign_for("launch", self.folder / key)
        signature = sign(session, "launch", wire.canonical(document))
        data = wire.canonical({**document, "signature": signature})
        assert self.store.create(key_wanted("launch", number), data)

    def compose(self, number: int, manifest: Manifest, layer: Path) -> dict[str, Any]:
        """Return a whole document without its signature, and have what it names in the bucket."""
        self.want(1000 + number, manifest, layer)
        data = self.store.read(key_wanted("launch", 1000 + number))
        assert data
        document: dict[str, Any] = json.loads(data)
        del document["signature"]
        next_one = {"get": self.store.sign_get(key_wanted("launch", number + 1), 600)}
        return {**document, "number": number, "next": next_one}

    def told(self, guest: Guest) -> dict[str, Any]:
        """Return what a machine has told of changes last."""
        reports = read_documents(self.store, "launch").get(guest.root.name, {})
        found: dict[str, Any] = reports.get("synced", {})
        return found

    def wait(self, guest: Guest, number: int) -> None:
        """Wait until a machine has told how it fared with that change."""
        wait_for(lambda: self.told(guest).get("number") == number)


@pytest.fixture
def client(parts: Parts, published: Guest, store: LocalStore, tmp_path: Path) -> Client:
    """A client whose bucket has the archive."""
    bucket = tmp_path / "bucket"
    shutil.copytree(published.root.with_suffix(".bucket"), bucket)
    shutil.rmtree(bucket / "reports")
    return Client(parts, store, tmp_path / "client")


@contextmanager
def following(guest: Guest) -> Iterator[None]:
    """Have a machine follow what is wanted."""
    process = guest.start("sync")
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        assert printed == ""


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def test_the_old_layer_goes_with_its_folders_and_the_base_stays(
    client: Client, tmp_path: Path
) -> None:
    first, packed = client.layer(mine="VALUE = 1\n", old__deep="")
    guest = Guest(tmp_path / "machine", client.launch(first, packed))
    assert guest.boot() == wire.READY
    before = snapshot(guest.env.resolve())
    with following(guest):
        second = client.layer(mine="VALUE = 2\n")
        client.want(1, *second)
        client.wait(guest, 1)
        assert client.told(guest)["environment"] == second[0].environment_digest
        assert guest.says("import mine, alpha; print(mine.VALUE, alpha.NAME)") == "2 alpha"
        assert not (guest.env / SITE / "old").exists()
        # Of what the machine began with nothing has changed, though its files are shared.
        assert snapshot((guest.opt / "previous").resolve()) == before
        whole = Guest(tmp_path / "whole", client.launch(*second))
        assert whole.boot() == wire.READY
        assert snapshot(guest.env.resolve()) == snapshot(whole.env.resolve())
        client.want(2, replace(first, layer=None), None)
        client.wait(guest, 2)
        assert not (guest.env / SITE / "mine.py").exists()
        assert not (guest.env / "lib/envboot").exists()


def test_killed_at_any_moment_it_ends_with_what_is_wanted(client: Client, tmp_path: Path) -> None:
    launch = client.launch(*client.layer(mine="VALUE = 1\n"))
    wanted = client.layer(mine="VALUE = 2\n", more="")
    client.want(1, *wanted)
    guest = Guest(tmp_path / "machine", launch)
    assert guest.boot() == wire.READY
    first, dice, fresh = snapshot(guest.env.resolve()), random.Random(1), guest.root
    whole = None
    killed = 0
    while killed < KILLS:
        # As it was after the boot, but for what killed agents have left.
        copy = Guest(tmp_path / f"machine-{killed}", launch)
        shutil.rmtree(copy.root)
        shutil.copytree(fresh, copy.root, symlinks=True)
        for _ in range(4):
            process = copy.start("sync")
            time.sleep(dice.uniform(0.05, 0.45))
            if dice.random() < 0.5:
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.communicate()
            killed += 1
            now = snapshot(copy.env.resolve())
            assert now in (first, whole) or (
                whole is None and (copy.env / SITE / "more.py").exists()
            )
        with following(copy):
            client.wait(copy, 1)
            wait_for((copy.state / "synced.json").exists)
        now = snapshot(copy.env.resolve())
        whole = whole or now
        assert now == whole
        assert copy.leftovers() == []


def test_the_end_is_moved_and_the_command_interrupted_without_another_environment(
    client: Client, tmp_path: Path
) -> None:
    manifest, layer = client.layer(mine="VALUE = 1\n")
    launch = client.launch(manifest, layer)
    script = (
        "trap 'echo interrupted >>$F; exit 3' INT; echo begins >>$F; while :; do sleep 0.05; done"
    )
    launch.config |= {"command": ["sh", "-c", script], "environment": {"F": str(tmp_path / "f")}}
    guest = Guest(tmp_path / "guest", launch)
    assert guest.boot() == wire.READY
    before = guest.env.resolve()
    process = guest.start("run")
    wait_for(lambda: (tmp_path / "f").exists())
    with following(guest):
        client.want(1, manifest, layer, end=1_900_000_000)
        client.wait(guest, 1)
        moved = json.loads((guest.state / "moved.json").read_text())
        assert moved == {"launch": "launch", "end": 1_900_000_000}
        assert process.poll() is None
        # One after it says nothing of the end.
        client.want(2, manifest, layer, interrupt=True)
        client.wait(guest, 2)
        assert process.wait(20) == 3
    assert (tmp_path / "f").read_text() == "begins\ninterrupted\n"
    assert json.loads((guest.state / "moved.json").read_text()) == moved
    assert guest.env.resolve() == before
    assert "error" not in client.told(guest)


def test_after_a_reboot_the_newest_is_active_again_even_without_the_bucket(
    client: Client, tmp_path: Path
) -> None:
    guest = Guest(tmp_path / "machine", client.launch(*client.layer(mine="VALUE = 1\n")))
    assert guest.boot() == wire.READY
    client.want(1, *client.layer(mine="VALUE = 2\n"))
    client.want(2, *client.layer(mine="VALUE = 3\n"))
    synced = guest.state / "synced.json"
    with following(guest):
        wait_for(synced.exists)
        wait_for(lambda: (guest.state / "unsynced.json").read_text() == '""')
    assert client.told(guest)["number"] == 2
    assert guest.boot() == wire.READY
    assert guest.says("import mine; print(mine.VALUE)") == "1"
    synced.write_text(json.dumps({**json.loads(synced.read_text()), "boot": "another"}))
    grants = {**guest.launch.grants, "wanted": {"get": "http://127.0.0.1:9/launches/x"}}
    guest.give(replace(guest.launch, grants=grants))
    with following(guest):
        wait_for(lambda: guest.says("import mine; print(mine.VALUE)") == "3")


def test_what_cannot_be_is_told_and_the_machine_goes_on(client: Client, tmp_path: Path) -> None:
    guest = Guest(tmp_path / "machine", client.launch(*client.layer(mine="VALUE = 1\n")))
    assert guest.boot() == wire.READY
    wanted, packed = client.layer(mine="VALUE = 2\n")
    other = replace(wanted, base=replace(wanted.base, virtual_packages={"__cuda": "12"}))
    with following(guest):
        client.want(1, other, packed)
        client.wait(guest, 1)
        assert client.told(guest)["error"] == "another base is wanted"
        client.want(2, wanted, packed, digest="sha256:" + 64 * "0")
        client.wait(guest, 2)
        assert "is not the one that is wanted" in client.told(guest)["error"]
        assert guest.says("import mine; print(mine.VALUE)") == "1"
        client.want(3, wanted, packed)
        client.wait(guest, 3)
        assert guest.says("import mine; print(mine.VALUE)") == "2"


def test_a_file_of_the_base_that_a_layer_replaced_is_not_lost(
    client: Client, tmp_path: Path
) -> None:
    launch = client.launch(*client.layer(mine="VALUE = 1\n", alpha="NAME = 'ours'\n"))
    guest = Guest(tmp_path / "machine", launch)
    assert guest.boot() == wire.READY
    with following(guest):
        client.want(1, *client.layer(mine="VALUE = 2\n", alpha="NAME = 'new'\n"))
        client.wait(guest, 1)
        assert (guest.env / SITE / "alpha.py").read_text() == "NAME = 'new'\n"
        client.want(2, *client.layer(mine="VALUE = 3\n"))
        client.wait(guest, 2)
        assert (
            "alpha.py, which the base brings too, would be missing" in client.told(guest)["error"]
        )
        assert guest.says("import mine; print(mine.VALUE)") == "2"


def test_a_layer_without_a_list_is_not_replaced(client: Client, tmp_path: Path) -> None:
    launch = client.launch(*client.layer(listed=False, mine="VALUE = 1\n"))
    guest = Guest(tmp_path / "machine", launch)
    assert guest.boot() == wire.READY
    client.want(1, *client.layer(mine="VALUE = 2\n"))
    with following(guest):
        wait_for(lambda: client.told(guest))
    assert "has no list of its files" in client.told(guest)["error"]
    assert guest.says("import mine; print(mine.VALUE)") == "1"


def test_a_url_that_has_ended_is_told_once(client: Client, tmp_path: Path) -> None:
    launch = client.launch(*client.layer(mine="VALUE = 1\n"), seconds=-60)
    guest = Guest(tmp_path / "machine", launch)
    assert guest.boot() == wire.READY
    with following(guest):
        wait_for(lambda: "the URL has ended" in guest.events[-1]["MESSAGE"])
        # Twice the pause between two looks.
        time.sleep(0.8)
    assert [e["MESSAGE"] for e in guest.events if "ended" in e["MESSAGE"]] == [
        "sync: the URL has ended: nothing more can be sent here"
    ]


@pytest.mark.parametrize("path", ["../../../../../victim/file", "out/file", "/{victim}/file"])
def test_a_list_that_leads_out_of_the_prefix_removes_nothing(
    client: Client, tmp_path: Path, path: str
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"kept")
    guest = Guest(tmp_path / "machine", client.launch(*client.layer(mine="VALUE = 1\n")))
    assert guest.boot() == wire.READY
    (guest.env / "out").symlink_to(victim)
    listed = guest.env / LAYER_LIST
    listed.write_text(listed.read_text() + path.format(victim=victim) + "\n")
    with following(guest):
        client.want(1, *client.layer(mine="VALUE = 2\n"))
        client.wait(guest, 1)
    assert "file" in client.told(guest)["error"]
    assert guest.says("import mine; print(mine.VALUE)") == "1"
    assert (victim / "file").read_bytes() == b"kept"


@pytest.mark.parametrize(
    "other", [{"number": "1"}, {"digest": "sha256:"}, {"next": {"get": 7}}, {"next": {"get": ""}}]
)
def test_a_wanted_document_of_another_shape_is_told_and_followed_by_nobody(
    client: Client, tmp_path: Path, other: dict[str, Any]
) -> None:
    launch = client.launch(*client.layer(mine="VALUE = 1\n"))
    if other == {"next": {"get": ""}}:
        # It names itself.
        other = {"next": launch.grants["wanted"]}
    document = {
        "number": 1,
        "digest": launch.manifest.environment_digest,
        "restart": False,
        "manifest": {"get": "/"},
        "next": {"get": "/"},
        **other,
    }
    client.write(1, document)
    guest = Guest(tmp_path / "machine", launch)
    assert guest.boot() == wire.READY
    with following(guest):
        wait_for(lambda: any(e["MESSAGE"].startswith("sync: ") for e in guest.events))
    said = {event["MESSAGE"] for event in guest.events if event["MESSAGE"].startswith("sync: ")}
    assert any("wanted" in text or "digest" in text for text in said), said


def test_what_another_key_has_signed_is_refused_told_and_never_made(
    client: Client, tmp_path: Path
) -> None:
    guest = Guest(tmp_path / "machine", client.launch(*client.layer(mine="VALUE = 1\n")))
    assert guest.boot() == wire.READY
    # Whoever may write to the bucket has a key of their own, and the launch's other documents.
    document = client.compose(1, *client.layer(mine="VALUE = 2\n"))
    client.write(1, document, key="elsewhere/cache")
    with following(guest):
        client.wait(guest, 1)
    assert "the signature is not the client's" in client.told(guest)["error"]
    assert guest.says("import mine; print(mine.VALUE)") == "1"
    assert not (guest.state / "synced.json").exists()


@pytest.mark.parametrize("change", ["digest", "next", "unsigned"])
def test_a_signature_covers_the_whole_document(client: Client, tmp_path: Path, change: str) -> None:
    guest = Guest(tmp_path / "machine", client.launch(*client.layer(mine="VALUE = 1\n")))
    assert guest.boot() == wire.READY
    document = client.compose(1, *client.layer(mine="VALUE = 2\n"))
    session = sign_for("launch", client.folder / "cache")
    document["signature"] = sign(session, "launch", wire.canonical(document))
    if change == "digest":
        document["digest"] = "sha256:" + 64 * "0"
    elif change == "next":
        document["next"] = {"get": "http://127.0.0.1:9/launches/launch/wanted-2.json"}
    else:
        del document["signature"]
    assert client.store.create(key_wanted("launch", 1), wire.canonical(document))
    with following(guest):
        client.wait(guest, 1)
    assert "signature" in client.told(guest)["error"]
    assert guest.says("import mine; print(mine.VALUE)") == "1"


def test_a_machine_without_ssh_keygen_refuses_and_says_so(client: Client, tmp_path: Path) -> None:
    guest = Guest(tmp_path / "machine", client.launch(*client.layer(mine="VALUE = 1\n")))
    assert guest.boot() == wire.READY
    guest.environment["PATH"] = str(tmp_path / "empty")
    client.want(1, *client.layer(mine="VALUE = 2\n"))
    with following(guest):
        client.wait(guest, 1)
    assert client.told(guest)["error"].startswith("ssh-keygen cannot verify a signature here")
    guest.environment["PATH"] = "/usr/bin:/bin"
    assert guest.says("import mine; print(mine.VALUE)") == "1"


FIRST = "https://bucket.s3.eu-west-1.amazonaws.com/team/launches/launch/wanted-1.json?X-Amz=1"
ROOT = "https://bucket.s3.eu-west-1.amazonaws.com/team/"


def test_urls_of_the_launch_s_own_bucket_and_prefix_are_taken() -> None:
    for key in ("environments/00.json", "layers/00.tar.zst", "launches/launch/wanted-2.json"):
        assert place({"get": f"{ROOT}{key}?X-Amz=2"}, FIRST) == f"{ROOT}{key}?X-Amz=2"
    first = "http://127.0.0.1:4321/launches/launch/wanted-1.json?e=1"
    found = place({"get": "/environments/00.json?e=2"}, first)
    assert found == "http://127.0.0.1:4321/environments/00.json?e=2"


@pytest.mark.parametrize(
    "url",
    [
        "https://other.s3.eu-west-1.amazonaws.com/team/environments/00.json",
        "http://bucket.s3.eu-west-1.amazonaws.com/team/environments/00.json",
        "https://bucket.s3.eu-west-1.amazonaws.com/environments/00.json",
        "https://bucket.s3.eu-west-1.amazonaws.com/team-two/environments/00.json",
        f"{ROOT}../other/environments/00.json",
        f"{ROOT}environments/../../other/00.json",
        f"{ROOT}environments/%2e%2e/%2e%2e/other/00.json",
        f"{ROOT}environments//00.json",
        f"{ROOT}?environments/00.json",
        "/environments/00.json",
        "file:///etc/passwd",
        "",
    ],
)
def test_urls_of_anything_else_are_refused(url: str) -> None:
    with pytest.raises(wire.AgentError, match="is not below"):
        place({"get": url}, FIRST)
