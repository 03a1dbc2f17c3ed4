"""SIGKILL at random moments: the prefix is absent or whole, and the next start ends whole."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from tests.agent.guests import SITE, make_launch, make_layer
from tests.agent.trees import snapshot

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch, Parts

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
KILLS = 100
"""Of each kind."""
LOOK = 0.004
"""Seconds between two looks at the prefix."""
GRACE = 10
"""Seconds in which whatever a killed agent had started must be gone."""


class Watcher:
    """Looks at a prefix: it is absent, or has every file of the environment in full size."""

    def __init__(self, whole: Path) -> None:
        self.sizes = {
            str(path.relative_to(whole)): path.lstat().st_size
            for path in whole.rglob("*")
            if not path.is_dir() or path.is_symlink()
        }
        self.looks = 0

    def look(self, guest: Guest) -> bool:
        """Return whether the prefix is there; it must never be half there."""
        return guest.env.is_symlink() and self.look_at(guest.env.resolve())

    def look_at(self, folder: Path) -> bool:
        """Look at one environment's folder."""
        self.looks += 1
        sizes = {path: (folder / path).lstat().st_size for path in self.sizes}
        assert sizes == self.sizes
        return True

    def watch(self, guest: Guest, process: subprocess.Popen[str], seconds: float) -> None:
        """Look again and again until the process ends or the time is over."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            self.look(guest)
            time.sleep(max(0, min(LOOK, end - time.monotonic())))


def find_session(session: int) -> Iterator[str]:
    """Yield the command lines of a session's living processes."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if folder.name.isdecimal() and os.getsid(int(folder.name)) == session:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    yield (folder / "cmdline").read_text().replace("\0", " ")


def assert_session_ends(session: int) -> None:
    end = time.monotonic() + GRACE
    while rest := list(find_session(session)):
        assert time.monotonic() < end, f"still running: {rest}"
        time.sleep(0.01)


def kill(process: subprocess.Popen[str], *, everything: bool) -> bool:
    """Kill an agent, or all that it started as well; False when it had ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        if everything:
            os.killpg(process.pid, signal.SIGKILL)
        elif process.poll() is None:
            process.kill()
    assert process.stdout
    process.stdout.close()
    return process.wait() == -signal.SIGKILL


def spread(dice: random.Random) -> Iterator[float]:
    """Yield moments of a boot, as parts of it: of every hundred one out of each hundredth."""
    while True:
        for part in dice.sample(range(100), 100):
            yield 1.05 * (part + dice.random()) / 100


def measure(new_guest: NewGuest, launch: Launch) -> float:
    """Return how long a whole boot takes here, in seconds."""
    times = []
    for number in range(3):
        guest = new_guest(f"measured-{number}", launch)
        start = time.monotonic()
        assert guest.boot() == wire.READY
        times.append(time.monotonic() - start)
    return statistics.median(times)


@pytest.mark.parametrize("kind", ["hit", "miss"])
def test_killed_at_200_moments_an_agent_always_ends_with_the_whole_environment(
    request: pytest.FixtureRequest, published: Guest, new_guest: NewGuest, kind: str
) -> None:
    launch = request.getfixturevalue({"hit": "hit", "miss": "launch"}[kind])
    source = {"hit": "archive", "miss": "install"}[kind]
    dice, watcher = random.Random(kind), Watcher(published.env.resolve())
    whole = snapshot(published.env.resolve())
    duration = measure(new_guest, launch)
    killed = machine = begun = 0
    moments = spread(dice)
    while killed < KILLS:
        machine += 1
        guest = new_guest(f"machine-{machine}", launch)
        sessions = []
        # The agents that begin again are killed too, up to four on one machine.
        for _ in range(4):
            process = guest.start("boot")
            sessions.append(process.pid)
            watcher.watch(guest, process, next(moments) * duration)
            killed += kill(process, everything=dice.random() < 0.3)
            if guest.envs.is_dir() and watcher.look(guest):
                break
            begun += bool(guest.envs.is_dir() and guest.leftovers())
        process = guest.start("boot")
        watcher.watch(guest, process, 60)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == wire.READY, printed
        assert guest.result["outcome"] == "ready"
        assert guest.result["source"] in (source, "present")
        assert guest.result["errors"] == []
        assert snapshot(guest.env.resolve()) == whole
        for session in sessions:
            assert_session_ends(session)
        assert guest.leftovers() == []
        assert [path.name for path in guest.envs.iterdir()] == [guest.env.resolve().name]
        for kept in guest.opt.glob("publish-*"):
            assert snapshot(kept) == whole
        shutil.rmtree(guest.root)
    # Moments that count: on the way, not before it began or after it had ended.
    assert begun > KILLS // 5, f"{begun} of {killed} kills struck while the environment was made"
    # On a busy machine it looks less often; it must have looked at every one.
    assert watcher.looks > 2 * machine


def test_killed_on_the_way_to_another_environment_an_agent_leaves_the_old_or_the_new(
    hit: Launch,
    parts: Parts,
    published: Guest,
    store: LocalStore,
    new_guest: NewGuest,
    tmp_path: Path,
) -> None:
    files = {f"{SITE}/mine.py": b"NAME = 'mine'\n", f"{SITE}/alpha.py": b"NAME = 'other'\n"}
    manifest, layer = make_layer(hit.manifest, tmp_path, files)
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest, layer=layer)
    old = Watcher(published.env.resolve())
    new_one = new_guest("measured", launch)
    start = time.monotonic()
    assert new_one.boot() == wire.READY
    duration = time.monotonic() - start
    new, whole = Watcher(new_one.env.resolve()), snapshot(new_one.env.resolve())
    guest, dice, killed = new_guest("guest", hit), random.Random("other"), 0
    assert guest.boot() == wire.READY
    booted = shutil.copytree(guest.root, tmp_path / "booted", symlinks=True)
    while killed < 60:
        shutil.rmtree(guest.root)
        shutil.copytree(booted, guest.root, symlinks=True)
        guest.give(launch)
        process, moment = guest.start("boot"), time.monotonic() + dice.uniform(0, 1.05 * duration)
        while process.poll() is None and time.monotonic() < moment:
            folder = guest.env.resolve()
            watcher = new if folder.name == manifest.environment_digest[7:] else old
            assert watcher.look_at(folder), "the prefix was absent for a moment"
            time.sleep(LOOK)
        killed += kill(process, everything=dice.random() < 0.3)
        assert guest.boot() == wire.READY
        assert snapshot(guest.env.resolve()) == whole
        assert old.look_at((guest.opt / "previous").resolve())
        assert_session_ends(process.pid)
        assert guest.leftovers() == []
        assert len(list(guest.envs.iterdir())) == 2


def test_a_killed_publisher_leaves_nothing_that_a_machine_could_take(
    launch: Launch, published: Guest, store: LocalStore, new_guest: NewGuest
) -> None:
    guest = new_guest("publisher", launch)
    assert guest.boot() == wire.READY
    kept = next(guest.opt.glob("publish-*"))
    spare = guest.root / "spare"
    shutil.copytree(kept, spare, symlinks=True)
    dice, killed = random.Random("publish"), 0
    start = time.monotonic()
    assert guest.publish() == wire.READY
    duration = time.monotonic() - start
    keys = [f"{launch.base_key}/{name}" for name in ("index.json", "env.tar.zst")]
    while killed < 40:
        for key in keys:
            store.delete(key)
        shutil.copytree(spare, kept, symlinks=True, dirs_exist_ok=True)
        process = guest.start("publish")
        time.sleep(dice.uniform(0, 1.05 * duration))
        if not kill(process, everything=dice.random() < 0.3):
            continue
        killed += 1
        assert_session_ends(process.pid)
        assert store.find(keys[1]) or not store.find(keys[0]), "an index without its archive"
        assert guest.publish() == wire.READY
        # The rename that says "done" may have come before the kill, never without the index.
        assert store.find(keys[0])
        assert store.find(keys[1])
    reader = new_guest("reader", launch)
    assert reader.boot() == wire.READY
    assert reader.result["source"] == "archive"
    assert reader.code() == published.code()
