"""What a command prints while it runs, on a machine: its paths are shown to the agent alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.agent.run import NEWEST, TAIL
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch
    from tests.agent.proxy import Proxy

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.sockets,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount name space needs root"),
]
NAMESPACE = """
mount --bind "$1/opt" /opt
mount --bind "$1/var/lib" /var/lib
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount -t tmpfs none /run
shift
exec "$@"
"""


@pytest.fixture
def run(hit: Launch, new_guest: NewGuest) -> Callable[[str], Guest]:
    """Return what runs a Python program as a machine's command, to its end."""

    def start(program: str) -> Guest:
        hit.config["command"] = ["python", "-u", "-c", program]
        guest = new_guest("guest", hit)
        assert guest.boot() == 0
        # Not another user: that one could not reach the interpreter of whoever runs the tests.
        (guest.root / "passwd").write_text("envboot:x:0:0::/:/bin/sh\n")
        (guest.root / "group").write_text("envboot:x:0:\n")
        del guest.environment["ENVBOOT_ROOT"]
        guest.wrap = ["unshare", "-m", "sh", "-ec", NAMESPACE, "sh", str(guest.root)]
        return guest

    return start


def test_output_goes_up_while_the_command_runs(
    run: Callable[[str], Guest], store: LocalStore
) -> None:
    guest = run(
        "import time\nfor i in range(9): print('line', i, 'ä'); time.sleep(0.8)\ntime.sleep(2)"
    )
    process, seen = guest.start("run"), 0.0
    start = time.monotonic()
    while process.poll() is None:
        reports = read_documents(store, "launch").get("guest", {})
        seen = seen or ("output" in reports and time.monotonic() - start) or 0.0
        time.sleep(0.1)
    printed = process.communicate()[0]
    assert printed == "".join(f"line {i} ä\n" for i in range(9))
    assert 1.9 < seen < 5
    reports = read_documents(store, "launch")["guest"]
    pieces = reports["output"]
    assert len(pieces) >= 2
    at = 0
    for piece in pieces:
        assert piece["offset"] == at
        at = piece["end"]
        assert piece["end"] - piece["offset"] == len(piece["text"].encode())
    assert printed.startswith("".join(piece["text"] for piece in pieces))
    assert reports["command"]["output"] == printed
    assert reports["command"]["offset"] == 0


def test_a_character_is_never_cut_in_two(run: Callable[[str], Guest], store: LocalStore) -> None:
    guest = run(
        "import os, time\n"
        "os.write(1, b'a\\xc3'); time.sleep(3); os.write(1, b'\\xa4b'); time.sleep(4.5)"
    )
    assert guest.agent("run") == 0
    pieces = read_documents(store, "launch")["guest"]["output"]
    assert pieces == [
        {"offset": 0, "text": "a", "end": 1},
        {"offset": 1, "text": "äb", "end": 4},
    ]


def test_of_much_output_the_newest_goes_up_and_what_was_skipped_is_known(
    run: Callable[[str], Guest], store: LocalStore
) -> None:
    guest = run(
        "import time\nprint('x' * 500000); print('last before'); time.sleep(3.5); print('end')"
    )
    assert guest.agent("run") == 0
    reports = read_documents(store, "launch")["guest"]
    (piece,) = reports["output"]
    total = 500001 + len("last before\n")
    assert (piece["offset"], piece["end"]) == (total - NEWEST, total)
    assert piece["text"].endswith("x\nlast before\n")
    assert reports["command"]["offset"] == total + 4 - TAIL
    assert len(reports["command"]["output"]) == TAIL


def test_a_bucket_that_does_not_answer_never_holds_the_command_up(
    run: Callable[[str], Guest], hit: Launch, proxy: Proxy
) -> None:
    hit.grants = proxy.redirect(hit.grants)
    guest = run(
        "import time\n"
        "start = time.monotonic()\n"
        "for i in range(60): print('x' * 500); time.sleep(0.1)\n"
        "print('took', time.monotonic() - start)"
    )
    proxy.strike("POST", 1000, "hang up")
    process, most = guest.start("run"), 0
    while not (guest.state / "command.json").exists():
        assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        most = max(most, len(children.split()))
        time.sleep(0.1)
    printed = process.communicate(timeout=60)[0]
    assert float(printed.split()[-1]) < 8
    assert most == 2, "the command and one report"


def test_a_silent_command_reports_no_output(run: Callable[[str], Guest], store: LocalStore) -> None:
    guest = run("import time; time.sleep(3)")
    assert guest.agent("run") == 0
    assert read_documents(store, "launch")["guest"].keys() == {"started", "result", "command"}
