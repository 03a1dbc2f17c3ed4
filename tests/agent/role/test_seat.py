"""A seat by the machine's role: waited for where a missing key is denied, and nothing removed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.fleet.peers import Seat, clear_secrets, write_seats
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import key_secret
from envboot_provisioners import Instance
from tests.agent.guests import Guest, Launch, Parts, make_launch
from tests.agent.role.cloud import Cloud, by_role
from tests.boot.metadata import identify
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
PROGRAM = "import os; print(os.environ['ENVBOOT_RANK'], len(os.environ['KEY']))"
SECRET = "x" * 4321
OWN = identify("guest")


@pytest.fixture
def guest(parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path) -> Guest:
    """A machine that has a role, is ready, and waits for its seat."""
    cache = tmp_path / "cache"
    made = make_launch(parts, cloud.store, cache, auth=Auth.ROLE, seats=0)
    launch = replace(by_role(cloud, made), config={**made.config})
    launch.config["command"] = ["python", "-c", PROGRAM]
    assert "?" not in json.dumps(launch.grants["seat"])
    # What docs/aws/guest.json allows.
    cloud.gate.may_list = False
    cloud.gate.may = lambda method, key: (
        (method == "GET" and ("/secrets/" not in key or key.endswith(f"/{OWN}.json")))
        or (method == "PUT" and (f"/{OWN}/" in key or "/base/" in key))
    )
    guest = new_guest("guest", launch)
    assert guest.boot() == 0, guest.reasons
    return guest


def test_a_seat_is_read_with_the_role_and_its_secret_is_the_clients_to_remove(
    guest: Guest, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = guest.start("run")
    time.sleep(1)
    assert process.poll() is None, "a missing key is denied, and that is no end"
    # The gate stands for the bucket.
    access = cloud.store.role_access()
    url = cloud.gate.redirect({"url": access.url})["url"]
    monkeypatch.setattr(cloud.store, "role_access", lambda: replace(access, url=url))
    instances = [Instance(name="guest", launch="launch", identity=OWN)]
    seats = [Seat(0, secret={"KEY": SECRET})]
    write_seats(
        cloud.store,
        Terms(launch="launch", auth=Auth.ROLE, seconds=60, seats=0),
        instances,
        seats=seats,
    )
    document = json.loads(cloud.store.read("launches/launch/seats-0.json") or b"")
    [secret] = [seat["secret"] for seat in document["seats"].values()]
    assert secret.keys() == {"get"}
    assert "?" not in secret["get"]
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (0, "0 4321\n")
    assert cloud.store.find(key_secret("launch", OWN))
    reports = read_documents(cloud.store, "launch")["guest"]
    assert reports["seated"] == {"rank": 0, "count": 1}
    assert SECRET not in json.dumps(reports)
    clear_secrets(cloud.store, "launch", instances)
    assert cloud.store.find(key_secret("launch", OWN)) is None
    # It has its own by now.
    assert guest.agent("run") == 0
