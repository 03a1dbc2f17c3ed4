"""Access by the machine's own role: a real S3 server, temporary credentials, emulated IMDSv2."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from envboot.fleet.results import read_results
from envboot.publish.grants import Auth
from tests.agent.guests import SITE, Guest, Launch, Parts, make_launch, make_layer, make_manifest
from tests.agent.role.cloud import ROLE, Cloud, assert_comes_from, by_role
from tests.boot.metadata import identify
from tests.reports import read_documents
from tests.userdata.conftest import find_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_every_python_installs_publishes_and_fetches_as_its_role(
    cloud: Cloud, launch: Launch, new_guest: NewGuest, version: str
) -> None:
    python = [find_python(version), "-I", "-S", "-bb", "-W", "error"]
    first, second = new_guest("first", launch), new_guest("second", launch)
    for guest, source in ((first, "install"), (second, "archive")):
        guest.python = python
        assert_comes_from(guest, source)
        assert guest.publish() == wire.READY
    assert first.code() == second.code()
    reports = read_documents(cloud.store, "launch")
    assert reports["first"].keys() == {"started", "result", "publish"}
    assert reports["second"]["result"] == second.result
    # Where a policy can tell whose they are.
    keys = {stat.key.rpartition("/")[0] for stat in cloud.store.list("reports/launch/events/arn:")}
    assert keys == {f"reports/launch/events/{identify(name)}" for name in ("first", "second")}
    assert cloud.gate.refused == []


def test_nothing_secret_is_in_what_a_role_needs(launch: Launch, cloud: Cloud) -> None:
    text = json.dumps(launch.grants)
    assert "?" not in text
    assert "expires" not in launch.grants
    assert "fields" not in launch.grants["report"]
    assert launch.grants["auth"]["url"].endswith("/team%20envs/")
    assert not any(session.token in text for session in cloud.gate.sessions.values())


def test_the_same_environment_is_granted_in_the_same_bytes(
    parts: Parts, cloud: Cloud, tmp_path: Path
) -> None:
    manifest, layer = make_layer(make_manifest(parts), tmp_path, {"mine.txt": b"1"})
    one, other = (
        make_launch(
            parts, cloud.store, tmp_path / "cache", manifest=manifest, layer=layer, auth=Auth.ROLE
        )
        for _ in range(2)
    )
    assert one.grants == other.grants


def test_the_layer_of_a_role_lives_beside_its_environment(
    parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path
) -> None:
    files = {f"{SITE}/mine.py": b"NAME = 'mine'\n"}
    manifest, layer = make_layer(make_manifest(parts), tmp_path, files)
    cache = tmp_path / "cache"
    make_launch(parts, cloud.store, cache, manifest=manifest, layer=layer)
    # It is in the bucket for a day, and not on this machine.
    launch = make_launch(parts, cloud.store, cache, manifest=manifest, auth=Auth.ROLE)
    key = f"environments/{manifest.environment_digest[7:]}.tar.zst"
    assert cloud.store.read(key) == layer.read_bytes()
    guest = new_guest("guest", by_role(cloud, launch))
    assert_comes_from(guest, "install")
    assert guest.says("import mine; print(mine.NAME)") == "mine"


def test_a_missing_index_is_a_plain_miss_for_who_may_not_list(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.gate.may_list = False
    first = new_guest("first", launch)
    assert_comes_from(first, "install")
    (fetch,) = (stage for stage in first.result["stages"] if stage["stage"] == "fetch")
    assert fetch["source"] == "missing"
    assert first.publish() == wire.READY
    assert_comes_from(new_guest("second", launch), "archive")


def test_a_base_that_has_ended_is_a_plain_miss_for_who_may_not_list(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.store.delete(f"{launch.base_key}/manifest.json")
    cloud.gate.may_list = False
    assert_comes_from(new_guest("first", launch), "install")


def test_a_role_that_reads_bases_only_tells_a_missing_index_too(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.gate.may_list = False
    cloud.gate.may = lambda method, key: method == "PUT" or "/base/" in key
    assert_comes_from(new_guest("first", launch), "install")


def test_a_role_that_may_not_read_is_told_and_the_machine_installs(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.gate.may = lambda method, key: method == "PUT" and bool(key)
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    url = launch.grants["index"]["get"]
    assert guest.reasons == f"fetch: forbidden: the role {ROLE} may not GET {url} (s3:GetObject)"


def test_a_role_that_may_not_write_is_told(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.gate.may = lambda method, key: method == "GET" and bool(key)
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    assert guest.publish() == wire.DEGRADED
    url = launch.grants["archive"]["get"]
    words = f"publish: forbidden: the role {ROLE} may not PUT {url} (s3:PutObject)"
    assert words in [event["MESSAGE"] for event in guest.events]
    told = [event["MESSAGE"] for event in guest.events if "report: forbidden" in event["MESSAGE"]]
    assert len(told) >= 2


@pytest.mark.parametrize("status", [503, 500])
def test_a_burst_of_faults_is_waited_out(
    cloud: Cloud, launch: Launch, new_guest: NewGuest, status: int
) -> None:
    first, second = new_guest("first", launch), new_guest("second", launch)
    cloud.gate.strike("GET .*index.json", 2, status)
    assert_comes_from(first, "install")
    cloud.gate.strike("PUT .*env.tar.zst", 2, status)
    cloud.gate.strike("PUT .*index.json", 1, status)
    assert first.publish() == wire.READY
    cloud.gate.strike("GET .*env.tar.zst", 3, status)
    assert_comes_from(second, "archive")


def test_an_answer_to_a_report_that_was_lost_is_no_fault(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.gate.strike("PUT .*-result.json", 1, "lose the answer")
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    assert not [event for event in guest.events if "report" in event["MESSAGE"]]
    assert read_documents(cloud.store, "launch")["guest"]["result"] == guest.result


@pytest.mark.parametrize("auth", list(Auth), ids=lambda auth: auth.value)
def test_of_several_publishers_at_once_all_are_content(
    parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path, auth: Auth
) -> None:
    launch = make_launch(parts, cloud.store, tmp_path / "cache", auth=auth)
    if auth is Auth.ROLE:
        launch = by_role(cloud, launch)
    guests = [new_guest(name, launch) for name in ("one", "two", "three")]
    for guest in guests:
        assert_comes_from(guest, "install")
    processes = [guest.start("publish") for guest in guests]
    for process in processes:
        assert (process.communicate(timeout=60)[0], process.returncode) == ("", wire.READY)
    names = {stat.key.rpartition("/")[2] for stat in cloud.store.list(f"{launch.base_key}/")}
    assert names == {"manifest.json", "env.tar.zst", "index.json"}
    assert_comes_from(new_guest("next", launch), "archive")


def modified(cloud: Cloud, launch: Launch) -> dict[str, object]:
    """When each of a base's objects was last written."""
    found = cloud.store.list(f"{launch.base_key}/")
    return {stat.key.rpartition("/")[2]: stat.modified for stat in found}


def test_a_machine_writes_over_nothing_however_old_it_is(
    parts: Parts, cloud: Cloud, launch: Launch, new_guest: NewGuest, tmp_path: Path
) -> None:
    first, second = new_guest("first", launch), new_guest("second", launch)
    assert_comes_from(first, "install")
    assert first.publish() == wire.READY
    assert_comes_from(second, "archive")
    before, start = modified(cloud, launch), len(cloud.gate.requests)
    cloud.gate.age = 86_500
    assert (first.publish(), second.publish()) == (wire.READY, wire.READY)
    cloud.gate.age = 0
    assert modified(cloud, launch) == before
    assert [each for each in cloud.gate.requests[start:] if "/base/" in each] == []
    # What is rendered from now on pins it, with a role too, and grants no writing.
    later = make_launch(parts, cloud.store, tmp_path / "cache", auth=Auth.ROLE).grants
    index = cloud.store.read(f"{launch.base_key}/index.json")
    assert later["index"]["sha256"] == hashlib.sha256(index or b"").hexdigest()
    assert [name for name in ("archive", "index") if "put" in later[name]] == []


def test_manifest_and_rare_modules_are_fetched_as_the_role(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    launch.config["command"] = ["python", "-c", "import alpha; print(alpha.NAME)"]
    guest = new_guest("guest", launch)
    key = f"environments/{launch.manifest.environment_digest[7:]}.json"
    launch.grants["manifest"] = {"get": launch.grants["auth"]["url"] + key}
    guest.give(launch)
    (guest.state / "manifest.json").unlink()
    for name in ("explain", "pack", "publish", "run", "watch"):
        (guest.lib / f"agent/{name}.py").unlink()
    assert guest.boot() == wire.READY
    processes = [guest.start(word) for word in ("run", "publish", "status")]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    assert printed[0] == "alpha\n"
    assert sorted(path.name for path in guest.lib.iterdir() if path.name[0] != "_") == ["agent"]


def test_results_go_where_a_policy_can_tell_whose_they_are(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    program = "open('small', 'w').write('1'); open('large', 'wb').write(bytes(9_000_000))"
    launch.config["command"] = ["python", "-c", program]
    launch.config["output"] = {}
    guest = new_guest("first", launch)
    assert_comes_from(guest, "install")
    assert guest.agent("results") == 0
    (index,) = read_results(cloud.store, "launch").indexes
    assert index.folder == f"reports/launch/results/{identify('first')}/"
    assert {file.path: file.size for file in index.files} == {"small": 1, "large": 9_000_000}
    keys = {stat.key for stat in cloud.store.list(f"{index.folder}blobs/")}
    named = {extent.blob for file in index.files for extent in file.extents}
    assert keys == {f"{index.folder}blobs/{blob}" for blob in named}
    assert cloud.gate.refused == []
