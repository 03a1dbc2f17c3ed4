"""What a command prints while it runs, on a machine: its paths are shown to the agent alone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent.run import NEWEST, TAIL
from envboot.fleet.peers import Seat, write_seats
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import key_seats
from envboot_provisioners import Instance
from tests.launch.workspace import wait_for
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch
    from tests.agent.proxy import Proxy

    NewGuest = Callable[[str, Launch], Guest]
    Run = Callable[..., Guest]

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.sockets,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount name space needs root"),
]
FIRST = 0.4
"""Seconds before the first report of output, a fifth of what they are on machines."""
NAMESPACE = """
mount --bind "$1/opt" /opt
mount --bind "$1/var/lib" /var/lib
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount -t tmpfs none /run
shift
exec "$@"
"""


# How a program of the machine waits for the test: for a file that the test makes.
WAIT = """
import os, time
def wait(name):
    while not os.path.exists("/opt/" + name):
        time.sleep(0.02)
"""


@pytest.fixture
def run(hit: Launch, new_guest: NewGuest) -> Run:
    """Return what makes a machine whose command is a Python program; it may `wait` for a file."""

    def make(program: str, first: float = FIRST) -> Guest:
        hit.config["command"] = ["python", "-u", "-c", WAIT + program]
        guest = new_guest("guest", hit)
        assert guest.boot() == 0
        guest.edit("agent/run.py", r"(?m)^(\w+,\w+)=2\.,", rf"\1={first},")
        # Not another user: that one could not reach the interpreter of whoever runs the tests.
        (guest.root / "passwd").write_text("envboot:x:0:0::/:/bin/sh\n")
        (guest.root / "group").write_text("envboot:x:0:\n")
        del guest.environment["ENVBOOT_ROOT"]
        guest.wrap = ["unshare", "-m", "sh", "-ec", NAMESPACE, "sh", str(guest.root)]
        return guest

    return make


def go_on(guest: Guest, name: str) -> None:
    """Let the program of a machine end its wait."""
    (guest.opt.parent / name).touch()


def read_pieces(store: LocalStore) -> list[dict[str, Any]]:
    """Return the output that has gone up while the command ran."""
    found: list[dict[str, Any]] = read_documents(store, "launch")["guest"].get("output", [])
    return found


def test_output_goes_up_while_the_command_runs(run: Run, store: LocalStore) -> None:
    guest = run(
        "for i in range(9): print('line', i, 'ä'); time.sleep(0.1)\nprint('last'); wait('end')"
    )
    process = guest.start("run")
    start = time.monotonic()
    wait_for(lambda: read_pieces(store))
    assert time.monotonic() - start > FIRST, "one report of much is better than many"
    wait_for(lambda: read_pieces(store)[-1]["text"].endswith("last\n"))
    assert process.poll() is None
    go_on(guest, "end")
    printed = process.communicate(timeout=60)[0]
    assert printed == "".join(f"line {i} ä\n" for i in range(9)) + "last\n"
    reports = read_documents(store, "launch")["guest"]
    pieces = reports["output"]
    assert len(pieces) >= 2
    at = 0
    for piece in pieces:
        assert piece["offset"] == at
        at = piece["end"]
        assert piece["end"] - piece["offset"] == len(piece["text"].encode())
    assert printed == "".join(piece["text"] for piece in pieces)
    assert reports["command"]["output"] == printed
    assert reports["command"]["offset"] == 0


def test_a_character_is_never_cut_in_two(run: Run, store: LocalStore) -> None:
    guest = run("os.write(1, b'a\\xc3'); wait('rest'); os.write(1, b'\\xa4b'); wait('end')")
    process = guest.start("run")
    wait_for(lambda: read_pieces(store))
    go_on(guest, "rest")
    wait_for(lambda: len(read_pieces(store)) == 2)
    go_on(guest, "end")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert read_pieces(store) == [
        {"offset": 0, "text": "a", "end": 1},
        {"offset": 1, "text": "äb", "end": 4},
    ]


def test_of_much_output_the_newest_goes_up_and_what_was_skipped_is_known(
    run: Run, store: LocalStore
) -> None:
    # As on real machines: all of it must be printed before the first report.
    guest = run("print('x' * 500000); print('last before'); wait('end'); print('end')", 2.0)
    process = guest.start("run", stdout=subprocess.DEVNULL)
    wait_for(lambda: read_pieces(store))
    go_on(guest, "end")
    assert process.wait(60) == 0
    reports = read_documents(store, "launch")["guest"]
    (piece,) = reports["output"]
    total = 500001 + len("last before\n")
    assert (piece["offset"], piece["end"]) == (total - NEWEST, total)
    assert piece["text"].endswith("x\nlast before\n")
    assert reports["command"]["offset"] == total + 4 - TAIL
    assert len(reports["command"]["output"]) == TAIL


def test_a_bucket_that_does_not_answer_never_holds_the_command_up(
    run: Run, hit: Launch, proxy: Proxy
) -> None:
    hit.grants = proxy.redirect(hit.grants)
    guest = run(
        "start = time.monotonic()\n"
        "for i in range(20): print('x' * 500); time.sleep(0.1)\n"
        "print('took', time.monotonic() - start)"
    )
    # As on real machines: one report is tried for 4.5 s and longer.
    guest.edit("agent/fetch.py", r"\.03\*2\*\*", ".3*2**")
    proxy.strike("POST", 1000, "hang up")
    process, most = guest.start("run"), 0
    while not (guest.state / "command.json").exists():
        assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        most = max(most, len(children.split()))
        time.sleep(0.05)
    assert most == 2, "the command and one report"
    # Its last report would be tried for as long.
    os.killpg(process.pid, signal.SIGKILL)
    printed = process.communicate(timeout=60)[0]
    assert float(printed.split()[-1]) < 4


def test_a_silent_command_reports_no_output(run: Run, store: LocalStore) -> None:
    guest = run(f"time.sleep({2 * FIRST})")
    assert guest.agent("run") == 0
    assert read_documents(store, "launch")["guest"].keys() == {"started", "result", "command"}


def test_a_secret_in_memory_outlives_the_agent_and_not_the_machines_restart(
    run: Run, hit: Launch, store: LocalStore
) -> None:
    hit.grants["seat"] = {"get": store.sign_get(key_seats("launch", 0), 600)}
    guest = run(
        "at = os.stat('/run/envboot/secrets.json')\n"
        "print(len(os.environ['KEY']), oct(at.st_mode & 0o777), at.st_uid)"
    )
    terms = Terms(launch="launch", auth=Auth.URLS, seconds=600, seats=0)
    seat = Seat(0, passing={"KEY": "of-the-person"})
    write_seats(store, terms, [Instance(name="guest", launch="launch")], seats=[seat])
    # The unit starts a second agent on the same boot.
    guest.wrap[4] = NAMESPACE.replace('exec "$@"', '"$@"; "$@"')
    assert guest.start("run").communicate(timeout=60)[0] == "13 0o600 0\n" * 2
    # `/run` is empty after a restart.
    printed = guest.start("run").communicate(timeout=60)[0]
    assert "KEY: secrets are kept in memory only, and this machine has restarted since" in printed
