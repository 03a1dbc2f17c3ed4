"""When machines end by themselves, and what they say of it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import life
from envboot.agent.host import Host, write_json
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def run_life(guest: Guest, seconds: float = 20) -> float:
    """Let the machine live to its end; returns how long that took."""
    start = time.monotonic()
    process = guest.start("life")
    printed, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, printed
    return time.monotonic() - start


def read_ended(store: LocalStore) -> dict[str, Any]:
    (events,) = read_documents(store, "launch").values()
    found: dict[str, Any] = events["ended"]
    return found


def test_a_machine_ends_at_its_time_and_says_so(
    launch: Launch, new_guest: NewGuest, store: LocalStore
) -> None:
    launch.config["life"] = {"end": int(time.time()) + 3}
    guest = new_guest("guest", launch)
    guest.env.symlink_to(guest.root)
    assert 1.5 < run_life(guest) < 6
    assert read_ended(store) == {"why": "max-life", "text": "its time was over"}


def test_a_time_since_the_first_boot_survives_a_reboot_but_no_image(
    launch: Launch, new_guest: NewGuest, store: LocalStore
) -> None:
    launch.config["life"] = {"max": 3600}
    guest = new_guest("guest", launch)
    guest.env.symlink_to(guest.root)
    born = {"instance": "guest", "time": time.time() - 3601}
    (guest.state / "born.json").write_text(json.dumps(born))
    assert run_life(guest) < 3
    assert read_ended(store)["why"] == "max-life"
    (guest.state / "born.json").write_text(json.dumps({**born, "instance": "another"}))
    process = guest.start("life")
    time.sleep(1)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_a_machine_that_never_becomes_ready_ends(
    launch: Launch, new_guest: NewGuest, store: LocalStore
) -> None:
    launch.config["life"] = {"ready": 1}
    assert run_life(new_guest("guest", launch)) < 12
    ended = read_ended(store)
    assert (ended["why"], ended["text"]) == ("not-ready", "it was not ready within 1 s")
    assert "console" in ended


@pytest.mark.parametrize("where", ["launch", "another"])
def test_the_client_moves_the_end_of_its_own_launch_only(
    launch: Launch, new_guest: NewGuest, store: LocalStore, where: str
) -> None:
    launch.config["life"] = {"end": int(time.time()) + 3600}
    guest = new_guest("guest", launch)
    guest.env.symlink_to(guest.root)
    moved = {"launch": where, "end": int(time.time()) - 1}
    (guest.state / "moved.json").write_text(json.dumps(moved))
    process = guest.start("life")
    if where == "launch":
        process.communicate(timeout=10)
        assert read_ended(store)["why"] == "max-life"
    else:
        time.sleep(1)
        assert process.poll() is None
        process.kill()
        process.communicate()


def test_without_a_life_nothing_waits(launch: Launch, new_guest: NewGuest) -> None:
    assert run_life(new_guest("guest", launch)) < 3


class Machine:
    """What a machine shows of itself, and a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **rules: int) -> None:
        self.states = dict.fromkeys(life._WORKERS, "dead")
        self.load, self.clients, self.now = 0.0, False, 1000.0
        monkeypatch.setattr(life, "_find_states", lambda names: self.states)
        monkeypatch.setattr(life, "_has_clients", lambda: self.clients)
        monkeypatch.setattr("os.getloadavg", lambda: (self.load, 0.0, 0.0))
        host = Host(str(folder))
        host.config = {"digest": "sha256:0", "life": rules}
        write_json(host.state + "/born.json", {"instance": host.instance, "time": time.time()})
        self._life = life._Life(host)

    def look(self, after: float) -> str:
        """Return why the machine ends, so many seconds later."""
        self.now += after
        return self._life._look_at_work(self.now)[0]


@pytest.fixture
def make_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    return lambda **rules: Machine(tmp_path, monkeypatch, **rules)


@pytest.mark.parametrize("last", ["exited", "failed"])
def test_a_machine_ends_when_its_command_is_over_and_nothing_is_left_to_publish(
    make_machine: Callable[..., Machine], last: str
) -> None:
    machine = make_machine(done=1)
    assert machine.look(5) == machine.look(5000) == ""
    machine.states |= {"envboot-run": "running", "envboot-publish": "running"}
    assert machine.look(5) == machine.look(5000) == ""
    machine.states["envboot-run"] = last
    assert machine.look(5) == machine.look(5000) == ""
    machine.states["envboot-publish"] = "exited"
    # Whoever waits comes first.
    assert machine.look(5) == machine.look(19) == ""
    assert machine.look(1) == "done"
    machine.states["envboot-run"] = "auto-restart"
    assert machine.look(1) == ""


def test_a_command_that_is_over_ends_no_machine_that_is_kept(
    make_machine: Callable[..., Machine],
) -> None:
    machine = make_machine()
    machine.states["envboot-run"] = "exited"
    assert machine.look(5) == machine.look(5000) == ""


def test_a_machine_that_nobody_uses_ends(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(idle=600)
    assert machine.look(5) == machine.look(599) == ""
    machine.load = 0.5
    assert machine.look(5000) == ""
    machine.load, machine.clients = 0.0, True
    assert machine.look(5000) == ""
    machine.clients, machine.states["envboot-run"] = False, "running"
    assert machine.look(5000) == ""
    machine.states["envboot-run"] = "failed"
    assert machine.look(599) == ""
    assert machine.look(1) == "idle"


def test_connections_to_what_listens_count_and_loopback_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = "  sl  local_address rem_address   st"
    listening = "   0: 00000000:0016 00000000:0000 0A"
    rows = {
        "": False,
        "   1: 0200000A:0016 0500000A:C350 01": True,
        "   1: 0100007F:0016 0100007F:C350 01": False,
        # Ours, to the bucket.
        "   1: 0200000A:C350 0500000A:01BB 01": False,
        "   1: 0200000A:0016 0500000A:C350 06": False,
    }
    for row, is_client in rows.items():
        text = "\n".join([head, listening, row]).rstrip()
        monkeypatch.setattr(life, "find_text", lambda path, text=text: text * (path[-1] == "p"))
        assert life._has_clients() is is_client, row
