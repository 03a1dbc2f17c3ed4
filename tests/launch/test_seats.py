"""A launch's instances know their rank, how many there are, and each other's addresses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import StoreError
from envboot.fleet.peers import Seat, clear_secrets, write_seats
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import key_secret
from envboot.store.local.store import LocalStore
from envboot_provisioners import Instance
from envboot_provisioners.local import find_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.launch.workspace import Workspace

PROGRAM = """
import json, os, socket
found = {name: os.environ.get(name) for name in os.environ if name.startswith("ENVBOOT_")}
listener = socket.create_server((found["ENVBOOT_ADDRESS"], 47811))
print(json.dumps(found))
"""


@pytest.mark.subprocess
@pytest.mark.sockets
def test_each_of_three_instances_has_one_rank_and_all_have_the_same_peers(warm: Workspace) -> None:
    document = warm.launch_json("--count", "3", "--", "python", "-c", PROGRAM)
    found = [json.loads(instance["output"]) for instance in document["instances"]]
    assert sorted(each["ENVBOOT_RANK"] for each in found) == ["0", "1", "2"]
    assert {each["ENVBOOT_COUNT"] for each in found} == {"3"}
    [peers] = {each["ENVBOOT_PEERS"] for each in found}
    assert len(set(peers.split(","))) == 3
    for each, instance in zip(found, document["instances"], strict=True):
        assert each["ENVBOOT_ADDRESS"] == peers.split(",")[int(each["ENVBOOT_RANK"])]
        assert instance["name"].endswith(f"-{each['ENVBOOT_RANK']}")


@pytest.mark.subprocess
@pytest.mark.sockets
def test_without_a_command_nobody_waits_for_a_seat(warm: Workspace) -> None:
    document = warm.launch_json()
    launches = warm.state / "store" / "launches" / document["launch"]
    assert not launches.exists()


def test_addresses_are_in_127_apart_from_each_other_and_never_the_first() -> None:
    launches = [f"launch-{number}" for number in range(300)]
    assert not any(find_address(launch, 0).startswith("127.0.") for launch in launches)
    found = {find_address("a", number) for number in range(20_000)}
    assert len(found) == 20_000
    for address in found:
        parts = [int(part) for part in address.split(".")]
        assert parts[0] == 127
        assert 0 < parts[3] < 255
        assert max(parts) < 256
    assert find_address("a", 5, "darwin") == "127.0.0.1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(f"file://{tmp_path}/bucket") as opened:
        yield opened


def make_instances(*addresses: str | None) -> list[Instance]:
    return [
        Instance(name=f"a-{number}", launch="a", address=address)
        for number, address in enumerate(addresses)
    ]


def read(store: LocalStore, key: str) -> dict[str, Any]:
    data = store.read(key)
    assert data is not None
    document: dict[str, Any] = json.loads(data)
    return document


def test_seats_go_on_where_the_launch_was_started_in_several_calls(store: LocalStore) -> None:
    instances = make_instances("10.0.0.4", "10.0.0.5")
    write_seats(store, Terms(launch="a", auth=Auth.URLS, seconds=60, seats=3), instances)
    assert read(store, "launches/a/seats-3.json") == {
        "seats": {
            "a-0": {"rank": 3, "words": [], "address": "10.0.0.4"},
            "a-1": {"rank": 4, "words": [], "address": "10.0.0.5"},
        },
        "count": 5,
        "peers": [None, None, None, "10.0.0.4", "10.0.0.5"],
    }


@pytest.mark.sockets
def test_ranks_words_count_and_peers_may_be_chosen(store: LocalStore) -> None:
    instances = make_instances("10.0.0.4", None)
    seats = [Seat(1, words=("--name", "b")), Seat(0, secret={"KEY": "a secret"})]
    write_seats(
        store,
        Terms(launch="a", auth=Auth.URLS, seconds=60, seats=0),
        instances,
        seats=seats,
        count=9,
        peers=["x"],
    )
    document = read(store, "launches/a/seats-0.json")
    assert (document["count"], document["peers"]) == (9, ["x"])
    assert document["seats"]["a-0"] == {"rank": 1, "words": ["--name", "b"], "address": "10.0.0.4"}
    assert document["seats"]["a-1"].keys() == {"rank", "words", "secret"}
    assert document["seats"]["a-1"]["secret"].keys() == {"get", "delete"}
    assert "a secret" not in json.dumps(document)
    assert read(store, key_secret("a", "a-1")) == {"environment": {"KEY": "a secret"}}
    clear_secrets(store, "a", instances)
    assert [stat.key for stat in store.list("")] == ["launches/a/seats-0.json"]


def test_seats_are_given_once(store: LocalStore) -> None:
    instances = make_instances(None)
    write_seats(store, Terms(launch="a", auth=Auth.URLS, seconds=60, seats=0), instances)
    with pytest.raises(StoreError, match=r"Cannot write seats: `.*/launches/a/seats-0.json` is"):
        write_seats(store, Terms(launch="a", auth=Auth.URLS, seconds=60, seats=0), instances)


@pytest.mark.subprocess
@pytest.mark.sockets
def test_the_launch_says_why_a_machine_without_a_seat_did_not_start_its_command(
    warm: Workspace, tmp_path: Path
) -> None:
    # Somebody else's list, which is there first.
    (tmp_path / "sitecustomize.py").write_text(
        "import envboot.fleet.start as start\n"
        "real = start.write_seats\n"
        "def write(store, terms, instances, **rest):\n"
        "    from dataclasses import replace\n"
        "    others = [replace(each, name='other-' + each.name) for each in instances]\n"
        "    real(store, terms, others, **rest)\n"
        "start.write_seats = write\n"
    )
    done = warm.launch("--", "true", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "did not start it: no seat for " in done.stderr
    launch = done.stderr.partition("launch ")[2].split()[0].strip("`:;,")
    story = warm.run(warm.command()[0], "why", launch).stdout
    assert "command  did not start: no seat for " in story
