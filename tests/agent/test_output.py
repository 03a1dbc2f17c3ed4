"""What a command prints while it runs, on a machine: its paths are shown to the agent alone."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.agent.output import MISSING, PIECE, TAIL
from envboot.fleet.output import OutputRecord, Stream, parse_records
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
FIRST = 0.2
"""Seconds before the end of the first piece of output, less than on machines."""
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
        guest.edit("agent/output.py", r"(?m)^(\w+,\w+)=\.5,", rf"\1={first},")
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


def read_records(store: LocalStore) -> list[OutputRecord]:
    """Return the output that is in the bucket: every piece has a number, and there are no gaps."""
    keys = [stat.key for stat in store.list("reports/launch/output/guest/")]
    assert [int(key[-13:-4]) for key in keys] == [*range(1, len(keys) + 1)]
    found: list[OutputRecord] = []
    for key in keys:
        data = store.read(key)
        assert data
        assert len(data) <= PIECE + (1 << 17)
        records, end = parse_records(data)
        assert end == len(data)
        found += records
    return found


def join(records: list[OutputRecord], *streams: Stream) -> bytes:
    return b"".join(record.data for record in records if record.stream in (streams or Stream))


def test_output_goes_up_while_the_command_runs_with_its_streams_apart(
    run: Run, store: LocalStore
) -> None:
    guest = run(
        "for i in range(9):\n"
        "    os.write(1 + i % 2, b'line %d \\xff\\n' % i); time.sleep(0.1)\n"
        "os.write(2, b'last'); wait('end')"
    )
    begun = time.time()
    process = guest.start("run", errors="surrogateescape")
    wait_for(lambda: join(read_records(store)).endswith(b"last"))
    assert process.poll() is None
    go_on(guest, "end")
    printed = process.communicate(timeout=60)[0]
    records = read_records(store)
    lines = [b"line %d \xff\n" % i for i in range(9)]
    assert join(records) == b"".join(lines) + b"last"
    assert join(records, Stream.STDOUT) == b"".join(lines[0::2])
    assert join(records, Stream.STDERR) == b"".join(lines[1::2]) + b"last"
    times = [record.ms / 1000 for record in records]
    assert begun <= times[0] <= times[-1] <= time.time()
    assert times == sorted(times)
    assert len(list(store.list("reports/launch/output/"))) >= 2
    reports = read_documents(store, "launch")["guest"]
    assert reports["command"]["pieces"] == len(list(store.list("reports/launch/output/")))
    assert reports["command"]["output"] == join(records).decode(errors="replace")
    assert len(printed) == len(join(records)), "the journal has it, too"


def test_the_last_bytes_are_in_the_bucket_two_seconds_after_they_were_printed(
    run: Run, store: LocalStore
) -> None:
    """However long it has printed: pauses do not grow beyond that."""
    guest = run("while True: print(time.time()); time.sleep(0.05)", first=0.5)
    process = guest.start("run", stdout=subprocess.DEVNULL)
    wait_for(lambda: len(list(store.list("reports/launch/output/"))) > 4)
    worst = 0.0
    for _ in range(40):
        newest = float(join(read_records(store)).split()[-2])
        worst = max(worst, time.time() - newest)
        time.sleep(0.1)
    assert worst < 2.6
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_seven_megabytes_arrive_byte_for_byte(run: Run, store: LocalStore) -> None:
    guest = run(
        "import random\n"
        "for i in range(7): os.write(1, random.Random(i).randbytes(1 << 20))\n"
        "os.write(2, b'end')"
    )
    assert guest.start("run", stdout=subprocess.DEVNULL).wait(60) == 0
    wanted = b"".join(random.Random(i).randbytes(1 << 20) for i in range(7))
    records = read_records(store)
    assert join(records, Stream.STDOUT) == wanted
    assert join(records, Stream.STDERR) == b"end"
    assert len(read_documents(store, "launch")["guest"]["command"]["output"]) <= TAIL
    spool = [path.name for path in (guest.state / "output").iterdir()]
    assert spool == [f"{len(list(store.list('reports/launch/output/'))):09d}.sent"]


def test_a_bucket_that_is_away_for_a_while_loses_nothing_and_holds_nobody_up(
    run: Run, hit: Launch, proxy: Proxy, store: LocalStore
) -> None:
    hit.grants = proxy.redirect(hit.grants)
    guest = run(
        "start = time.monotonic()\n"
        "for i in range(60): print('line', i); time.sleep(0.1)\n"
        "print('took', time.monotonic() - start)"
    )
    # As on real machines: one upload is tried for 4.5 s and longer.
    guest.edit("agent/fetch.py", r"\.03\*2\*\*", ".3*2**")
    proxy.strike("POST", 7, "hang up")
    process = guest.start("run")
    most = 0
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        most = max(most, len(children.split()))
        time.sleep(0.05)
    assert most == 2, "the command, and what uploads"
    printed = process.communicate()[0]
    assert float(printed.split()[-1]) < 7.5
    assert join(read_records(store)).decode() == printed
    assert len(list(store.list("reports/launch/output/"))) < 5, "late pieces are longer"


def test_what_an_agent_wrote_before_it_was_killed_arrives(run: Run, store: LocalStore) -> None:
    guest = run("print('first'); wait('second'); print('second'); wait('end')")
    process = guest.start("run")
    wait_for(lambda: join(read_records(store)) == b"first\n")
    go_on(guest, "second")
    wait_for(lambda: list((guest.state / "output").glob("*.open")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    wait_for(lambda: join(read_records(store)) == b"first\nsecond\n")


def test_numbers_go_on_when_the_command_is_run_again(run: Run, store: LocalStore) -> None:
    guest = run("print('once more')")
    guest.wrap[4] = NAMESPACE.replace('exec "$@"', '"$@"; "$@"')
    # As if the power had failed: a record that is not whole, and a piece that is not sent.
    left = guest.state / "output"
    left.mkdir()
    whole = struct.pack(">BQI", 1, 5, 4) + b"left"
    (left / "000000001.open").write_bytes(whole + struct.pack(">BQI", 1, 5, 4) + b"x")
    assert guest.start("run").wait(60) == 0
    keys = [stat.key for stat in store.list("reports/launch/output/")]
    pieces = [parse_records(store.read(key) or b"")[0] for key in keys]
    assert [join(records) for records in pieces] == [b"left", b"once more\n", b"once more\n"]
    assert read_documents(store, "launch")["guest"]["command"]["pieces"] == 3


def test_of_more_than_the_disk_may_hold_the_rest_is_counted(
    run: Run, hit: Launch, proxy: Proxy, store: LocalStore
) -> None:
    hit.grants = proxy.redirect(hit.grants)
    guest = run(
        "os.write(1, b'a' * 50_000); time.sleep(1)\n"
        "os.write(1, b'b' * 50_000); time.sleep(0.5); wait('back'); time.sleep(1); print('end')"
    )
    guest.edit("agent/output.py", r"1<<30", "40_000")
    proxy.strike("POST", 1, 403)
    process = guest.start("run", stdout=subprocess.DEVNULL)
    wait_for(lambda: list((guest.state / "output").glob("*.bin")))
    time.sleep(1.5)
    go_on(guest, "back")
    assert process.wait(60) == 0
    records = read_records(store)
    assert join(records, Stream.STDOUT) == b"a" * 50_000 + b"end\n"
    assert join(records, Stream.AGENT) == MISSING % 50_000


def test_a_silent_command_reports_no_output(run: Run, store: LocalStore) -> None:
    guest = run(f"time.sleep({2 * FIRST})")
    assert guest.agent("run") == 0
    assert read_documents(store, "launch")["guest"].keys() == {"started", "result", "command"}
    assert not list(store.list("reports/launch/output/"))


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
