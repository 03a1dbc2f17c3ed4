"""The directory that a command runs in: a copy of the launch directory, and the command's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from envboot.agent.work import SENT, update
from envboot.publish.layout import key_wanted
from tests.agent.guests import Guest, find_signer, make_launch, make_layer, make_manifest, want
from tests.layer.code import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.manifest import Manifest
    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Launch, Parts


def sent(root: Path, name: str, files: dict[str, str]) -> str:
    """Write what an environment brought of the launch directory; return the environment."""
    write(root / name / SENT, dict(files))
    return str(root / name)


def found(home: Path) -> dict[str, str]:
    work = home / "work"
    return {
        path.relative_to(work).as_posix(): path.read_text()
        for path in work.rglob("*")
        if path.is_file()
    }


def test_the_directory_has_what_was_sent_without_byte_code(tmp_path: Path) -> None:
    files = {"train.py": "1", "data/a.csv": "2", "__pycache__/train.cpython-311.pyc": "3"}
    env = sent(tmp_path, "one", files)
    (tmp_path / "one" / SENT / "train.py").chmod(0o755)
    update(env, str(tmp_path))
    assert found(tmp_path) == {"train.py": "1", "data/a.csv": "2"}
    assert os.access(tmp_path / "work/train.py", os.X_OK)


def test_without_anything_sent_there_is_an_empty_directory(tmp_path: Path) -> None:
    update(str(tmp_path / "nothing"), str(tmp_path))
    assert found(tmp_path) == {}
    assert (tmp_path / "work").is_dir()


def test_another_start_of_the_same_environment_leaves_all_as_the_command_left_it(
    tmp_path: Path,
) -> None:
    env = sent(tmp_path, "one", {"state.db": "sent", "gone.txt": "sent"})
    update(env, str(tmp_path))
    write(tmp_path / "work", {"state.db": "written", "result.csv": "made"})
    (tmp_path / "work/gone.txt").unlink()
    update(env, str(tmp_path))
    assert found(tmp_path) == {"state.db": "written", "result.csv": "made"}


def test_another_environment_changes_only_what_changed_on_the_client(tmp_path: Path) -> None:
    old = {"same.db": "sent", "edited.py": "old", "removed.py": "old", "pkg/only.py": "old"}
    update(sent(tmp_path, "one", old), str(tmp_path))
    made = {"same.db": "written", "result.csv": "made", "edited.py": "written"}
    byte_code = {"pkg/__pycache__/only.cpython-311.pyc": ""}
    write(tmp_path / "work", {**made, **byte_code})
    new = {"same.db": "sent", "edited.py": "new", "added/new.py": "new"}
    update(sent(tmp_path, "two", new), str(tmp_path))
    assert found(tmp_path) == {
        "same.db": "written",
        "result.csv": "made",
        "edited.py": "new",
        "added/new.py": "new",
    }
    assert not (tmp_path / "work/pkg").exists(), "it could still be imported"


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_running_command_sees_what_a_sync_brings_and_keeps_what_it_wrote(
    parts: Parts, published: Guest, store: LocalStore, tmp_path: Path
) -> None:
    shutil.copytree(published.root.with_suffix(".bucket"), tmp_path / "bucket", dirs_exist_ok=True)

    def layer(value: str) -> tuple[Manifest, Path]:
        return make_layer(make_manifest(parts), tmp_path / value, {f"{SENT}/v": value.encode()})

    manifest, packed = layer("one")
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest, layer=packed)
    launch.grants["wanted"] = {
        "get": store.sign_get(key_wanted("launch", 1), 600),
        "signer": find_signer("launch", tmp_path / "cache"),
    }
    script = "echo made >made; until grep -q two v; do sleep 0.05; done; cat made v; pwd"
    launch.config["command"] = ["sh", "-c", script]
    guest = Guest(tmp_path / "machine", launch)
    assert guest.boot() == 0
    process, follower = guest.start("run"), guest.start("sync")
    want(store, tmp_path / "cache", 1, *layer("two"))
    printed, _ = process.communicate(timeout=60)
    os.killpg(follower.pid, signal.SIGKILL)
    follower.communicate()
    assert printed == f"made\ntwo{guest.root}/home/envboot/work\n"


@pytest.mark.subprocess
@pytest.mark.sockets
def test_what_cannot_be_written_there_is_said_and_nothing_is_started(
    hit: Launch, new_guest: Callable[[str, Launch], Guest]
) -> None:
    hit.config["command"] = ["sh", "-c", "touch $F/ran"]
    guest = new_guest("guest", hit)
    hit.config["environment"] = {"F": str(guest.root)}
    guest.give(hit)
    assert guest.boot() == 0
    write(guest.root, {"home/envboot": "a file in the way"})
    assert guest.agent("run") == 1
    report = json.loads((guest.state / "command.json").read_text())
    assert report["error"].startswith("working directory: ")
    assert not (guest.root / "ran").exists()
