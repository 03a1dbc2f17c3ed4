"""A machine's seat: found in the bucket once, kept, and told to the command."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from envboot.fleet.peers import Seat, write_seats
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import key_seats, key_secret
from envboot_provisioners import Instance
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

SECRET = "s3cr3t-of-one-machine"
# The secret is proved to be there, and not printed: what a command prints is reported.
PROGRAM = """
import hashlib, json, os, sys
found = {name: value for name, value in os.environ.items() if name.startswith("ENVBOOT_")}
found["key"] = hashlib.sha256(os.environ.get("KEY", "").encode()).hexdigest()[:8]
print(json.dumps([sys.argv[1:], found]), flush=True)
"""
KEY = hashlib.sha256(SECRET.encode()).hexdigest()[:8]


@pytest.fixture
def guest(hit: Launch, store: LocalStore, new_guest: NewGuest) -> Guest:
    """A machine that is ready and has not run its command yet."""
    hit.grants["seat"] = {"get": store.sign_get(key_seats("launch", 0), 600)}
    hit.config["command"] = ["python", "-c", PROGRAM, "own"]
    made = new_guest("guest", hit)
    assert made.boot() == 0
    return made


def give_seats(store: LocalStore, *names: str, seat: Seat | None = None) -> None:
    """Write seats; `seat` is that of the last one."""
    instances = [
        Instance(name=name, launch="launch", address=f"127.1.1.{number + 1}")
        for number, name in enumerate(names)
    ]
    seats = [Seat(number) for number in range(len(names))]
    if seat:
        seats[-1] = seat
    write_seats(
        store, Terms(launch="launch", auth=Auth.URLS, seconds=600, seats=0), instances, seats=seats
    )


def run(guest: Guest) -> tuple[int, str]:
    """Run the command; returns the agent's exit code and what it printed."""
    process = guest.start("run")
    printed, _ = process.communicate(timeout=60)
    assert "Traceback" not in printed, printed
    return process.returncode, printed


def report(store: LocalStore) -> dict[str, Any]:
    return read_documents(store, "launch")["guest"]


def test_the_command_is_told_its_seat_and_its_secret(guest: Guest, store: LocalStore) -> None:
    give_seats(
        store, "other", "guest", seat=Seat(1, words=("--name", "w 1"), secret={"KEY": SECRET})
    )
    code, printed = run(guest)
    assert code == 0, printed
    words, found = json.loads(printed)
    assert words == ["own", "--name", "w 1"]
    assert found["ENVBOOT_RANK"] == "1"
    assert found["ENVBOOT_COUNT"] == "2"
    assert found["ENVBOOT_PEERS"] == "127.1.1.1,127.1.1.2"
    assert found["ENVBOOT_ADDRESS"] == "127.1.1.2"
    assert found["key"] == KEY
    assert report(store)["seated"] == {"rank": 1, "count": 2}


def test_a_secret_is_gone_from_the_bucket_and_is_told_to_the_command_only(
    guest: Guest, store: LocalStore
) -> None:
    give_seats(store, "guest", seat=Seat(0, secret={"KEY": SECRET}))
    code, printed = run(guest)
    assert (code, json.loads(printed)[1]["key"]) == (0, KEY)
    assert store.find(key_secret("launch", "guest")) is None
    objects = [store.read(stat.key) or b"" for stat in store.list("")]
    assert not any(SECRET.encode() in data for data in objects)
    assert (guest.state / "seat.json").stat().st_mode & 0o777 == 0o600
    for path in guest.state.rglob("*"):
        if path.is_file() and path.name != "seat.json":
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_secret_in_memory_reaches_the_command_and_no_disk(
    guest: Guest, store: LocalStore
) -> None:
    give_seats(store, "guest", seat=Seat(0, passing={"KEY": SECRET}))
    code, printed = run(guest)
    assert (code, json.loads(printed)[1]["key"]) == (0, KEY)
    assert store.find(key_secret("launch", "guest")) is None
    objects = [store.read(stat.key) or b"" for stat in store.list("")]
    assert not any(SECRET.encode() in data for data in objects)
    for path in guest.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_secret_that_was_in_memory_is_missed_after_a_restart(
    guest: Guest, store: LocalStore
) -> None:
    give_seats(store, "guest", seat=Seat(0, passing={"KEY": SECRET}))
    run(guest)
    assert_not_started(
        guest, store, "KEY: secrets are kept in memory only, and this machine has restarted since"
    )


def test_a_restart_before_the_secret_was_removed_reads_it_again(
    guest: Guest, store: LocalStore
) -> None:
    give_seats(store, "guest", seat=Seat(0, passing={"KEY": SECRET}))
    data = store.read(key_secret("launch", "guest"))
    run(guest)
    assert data
    store.create(key_secret("launch", "guest"), data)
    assert json.loads(run(guest)[1])[1]["key"] == KEY


def test_what_a_command_prints_of_its_secret_is_shown_nowhere(
    guest: Guest, store: LocalStore
) -> None:
    program = "import os; print('a', os.environ['KEY'], 'z')"
    config = {**guest.launch.config, "command": ["python", "-c", program]}
    (guest.state / "config.json").write_text(json.dumps(config))
    give_seats(store, "guest", seat=Seat(0, passing={"KEY": SECRET}))
    assert run(guest) == (0, "a *** z\n")
    assert report(store)["command"]["output"] == "a *** z\n"


def test_a_secret_that_is_malformed_is_not_shown(guest: Guest, store: LocalStore) -> None:
    give_seats(store, "guest", seat=Seat(0, passing={"KEY": SECRET}))
    store.delete(key_secret("launch", "guest"))
    store.create(key_secret("launch", "guest"), b'{"secrets": {"KEY": "' + SECRET.encode())
    assert_not_started(guest, store, "not a secret of a seat")
    assert SECRET not in json.dumps([guest.events, report(store)])


def test_the_next_boot_keeps_the_seat_though_the_bucket_has_none(
    guest: Guest, store: LocalStore
) -> None:
    give_seats(store, "guest", seat=Seat(7, secret={"KEY": SECRET}))
    before = run(guest)
    for stat in store.list("launches/"):
        store.delete(stat.key)
    assert guest.boot() == 0
    assert run(guest) == before
    assert json.loads(before[1])[1]["ENVBOOT_RANK"] == "7"


@pytest.mark.parametrize("member", ["launch", "instance"])
def test_a_seat_of_another_launch_or_machine_is_not_its_own(
    guest: Guest, store: LocalStore, member: str
) -> None:
    give_seats(store, "guest", seat=Seat(7))
    run(guest)
    kept = json.loads((guest.state / "seat.json").read_text())
    (guest.state / "seat.json").write_text(json.dumps({**kept, member: "another", "rank": 1}))
    _, printed = run(guest)
    assert json.loads(printed)[1]["ENVBOOT_RANK"] == "7"


def test_a_seat_is_waited_for(guest: Guest, store: LocalStore) -> None:
    process = guest.start("run")
    time.sleep(1)
    assert process.poll() is None
    give_seats(store, "guest")
    printed, _ = process.communicate(timeout=20)
    assert json.loads(printed)[1]["ENVBOOT_RANK"] == "0"


def test_unknown_addresses_are_not_told(guest: Guest, store: LocalStore) -> None:
    guest.environment["ENVBOOT_PEERS"] = "of an outer launch"
    guest.environment["ENVBOOT_ADDRESS"] = "of an outer launch"
    instances = [Instance(name=name, launch="launch") for name in ("guest", "other")]
    write_seats(store, Terms(launch="launch", auth=Auth.URLS, seconds=600, seats=0), instances)
    _, printed = run(guest)
    found = json.loads(printed)[1]
    assert found["ENVBOOT_COUNT"] == "2"
    assert not {"ENVBOOT_PEERS", "ENVBOOT_ADDRESS"} & found.keys()


def test_without_a_grant_nothing_is_told(hit: Launch, new_guest: NewGuest) -> None:
    hit.config["command"] = ["python", "-c", PROGRAM]
    guest = new_guest("guest", hit)
    assert guest.boot() == 0
    _, printed = run(guest)
    assert json.loads(printed)[1].keys() == {"ENVBOOT_ROOT", "ENVBOOT_INSTANCE", "key"}


def assert_not_started(guest: Guest, store: LocalStore, reason: str) -> None:
    code, printed = run(guest)
    assert (code, reason in printed) == (1, True), printed
    command = report(store)["command"]
    assert (command["exit_code"], command["output"]) == (1, "")
    assert reason in command["error"]
    assert reason in guest.events[-1]["ENVBOOT_ERROR"]
    assert "?" not in printed + command["error"]


def test_a_machine_without_a_seat_says_so_and_runs_nothing(guest: Guest, store: LocalStore) -> None:
    give_seats(store, "one", "other")
    assert_not_started(guest, store, "no seat for guest, there are some for one, other")


def test_a_machine_whose_secret_somebody_else_has_read_runs_nothing(
    guest: Guest, store: LocalStore
) -> None:
    give_seats(store, "guest", seat=Seat(0, secret={"KEY": SECRET}))
    store.delete(key_secret("launch", "guest"))
    assert_not_started(guest, store, "the secret of this seat cannot be read, or somebody else")
    assert not (guest.state / "seat.json").exists()


def test_seats_that_never_come_are_given_up(guest: Guest, store: LocalStore) -> None:
    guest.edit("agent/seat.py", "=600,", "=1,")
    assert_not_started(guest, store, "no seats within 1 s")
