"""A command that is told to start again: SIGHUP to the agent that runs it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot_provisioners import Instance, local
from envboot_provisioners.local import LocalProvisioner
from tests.launch.workspace import wait_for
from tests.reports import read_documents
from tests.sessions import make_session

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@pytest.fixture
def start(hit: Launch, new_guest: NewGuest) -> Callable[[str], tuple[Guest, subprocess.Popen[str]]]:
    """Return what runs a shell script as a machine's command; `$F` is a folder of its own."""

    def run(script: str) -> tuple[Guest, subprocess.Popen[str]]:
        hit.config["command"] = ["sh", "-c", script]
        guest = new_guest("guest", hit)
        assert guest.boot() == 0
        hit.config["environment"] = {"F": str(guest.root)}
        guest.give(hit)
        return guest, guest.start("run")

    return run


def hang_up(guest: Guest, process: subprocess.Popen[str]) -> None:
    """Signal as `systemctl reload` and a client on this machine do."""
    pid = int((guest.root / "run/envboot/run.pid").read_text())
    assert pid == process.pid
    os.kill(pid, signal.SIGHUP)


def lines(guest: Guest, count: int) -> list[str]:
    """Return what the command wrote into its file, when there are so many lines."""
    file = guest.root / "lines"
    wait_for(lambda: file.exists() and len(file.read_text().splitlines()) >= count)
    return file.read_text().splitlines()


def test_the_whole_group_ends_in_peace_and_starts_again(
    start: Callable[[str], tuple[Guest, subprocess.Popen[str]]], store: LocalStore
) -> None:
    guest, process = start(
        "(trap 'sleep 0.3; echo ended >>$F/lines; exit' TERM; echo begins; echo start >>$F/lines;"
        " while [ ! -e $F/enough ]; do sleep 0.05; done) & wait"
    )
    assert lines(guest, 1) == ["start"]
    hang_up(guest, process)
    assert lines(guest, 3) == ["start", "ended", "start"]
    hang_up(guest, process)
    assert lines(guest, 5) == ["start", "ended", "start", "ended", "start"]
    (guest.root / "enough").touch()
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    reports = read_documents(store, "launch")["guest"]
    assert "restarted" in reports
    assert reports["command"]["output"] == printed
    assert printed.count("begins\n") == 3
    assert not (guest.root / "run/envboot/run.pid").exists()


def test_what_has_redirected_its_output_is_waited_for(
    start: Callable[[str], tuple[Guest, subprocess.Popen[str]]],
) -> None:
    guest, process = start(
        "trap 'sleep 0.5; echo ended >>$F/lines; exit' TERM; echo start >>$F/lines;"
        " exec >/dev/null 2>&1; while :; do sleep 0.05; done"
    )
    lines(guest, 1)
    hang_up(guest, process)
    assert lines(guest, 3) == ["start", "ended", "start"]
    process.kill()
    stop(guest)


def test_what_ignores_sigterm_is_killed_after_the_grace_and_daemons_hold_nothing_up(
    start: Callable[[str], tuple[Guest, subprocess.Popen[str]]],
) -> None:
    script = (
        "trap '' TERM; setsid sh -c 'echo $$ >$F/daemon; exec sleep 60' & "
        "echo $$ >$F/pid; echo start >>$F/lines; while :; do sleep 0.05; done"
    )
    guest, process = start("exit")
    process.communicate()
    # The constant has a short name there.
    guest.edit("agent/run.py", r"(?m)^(\w+)=10$", r"\1=1")
    config = json.loads((guest.state / "config.json").read_text())
    config["command"] = ["sh", "-c", script]
    (guest.state / "config.json").write_text(json.dumps(config))
    process = guest.start("run")
    lines(guest, 1)
    wait_for((guest.root / "daemon").exists)
    first = (guest.root / "pid").read_text()
    begin = time.monotonic()
    hang_up(guest, process)
    lines(guest, 2)
    assert 1 <= time.monotonic() - begin < 4
    assert not Path("/proc", first.strip()).exists()
    process.kill()
    stop(guest)


def test_a_command_that_ends_by_itself_is_not_started_again(
    start: Callable[[str], tuple[Guest, subprocess.Popen[str]]],
) -> None:
    guest, process = start("echo start >>$F/lines; exit 3")
    process.communicate(timeout=20)
    assert process.returncode == 3
    assert lines(guest, 1) == ["start"]


def stop(guest: Guest) -> None:
    """Kill what a test leaves: by its mark, as `local` does."""
    instance = Instance(name="guest", launch="launch", root=guest.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "GRACE", 0.1)
        LocalProvisioner(make_session()).terminate([instance], keep=True)
