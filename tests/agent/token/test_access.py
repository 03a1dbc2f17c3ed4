"""Access by the machine's service account: a real server, tokens that end, emulated metadata."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from envboot.publish.grants import Auth
from tests.agent.guests import Guest, Launch, Parts, make_launch
from tests.agent.role.cloud import assert_comes_from, shift_clock
from tests.gcs import GUEST, READ_ONLY
from tests.reports import read_documents
from tests.userdata.conftest import find_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.agent.token.cloud import Cloud

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
LIST = "storage.objects.list"


@pytest.mark.parametrize("version", ["3.9", "3.11", "3.13"])
def test_every_python_installs_publishes_and_fetches_with_its_token(
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
    assert cloud.front.refused == []


def test_nothing_secret_is_in_what_a_token_needs(launch: Launch, cloud: Cloud) -> None:
    text = json.dumps(launch.grants)
    assert "?" not in text
    assert "expires" not in launch.grants
    assert "fields" not in launch.grants["report"]
    assert launch.grants["auth"].keys() == {"kind", "url"}
    assert launch.grants["auth"]["url"].endswith("/team%20envs/")
    assert launch.grants["report"]["headers"] == {"x-goog-if-generation-match": "0"}
    assert "max_bytes" not in launch.grants["archive"]
    assert not any(token in text for token in cloud.front.sessions)


def test_a_missing_index_is_a_plain_miss_for_who_may_not_list(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.front.may = lambda who, permission, name: who != GUEST or permission != LIST
    first = new_guest("first", launch)
    assert_comes_from(first, "install")
    (fetch,) = (stage for stage in first.result["stages"] if stage["stage"] == "fetch")
    assert fetch["source"] == "missing"
    assert first.publish() == wire.READY
    assert_comes_from(new_guest("second", launch), "archive")


def test_an_account_that_may_not_read_is_told_and_the_machine_installs(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.front.may = lambda who, permission, name: who != GUEST or permission.endswith("create")
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    url = launch.grants["index"]["get"]
    assert guest.reasons == f"fetch: forbidden: the service account {GUEST} may not GET {url}"


def test_an_account_that_may_not_write_is_told(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.front.may = lambda who, permission, name: not permission.endswith("create")
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    assert guest.publish() == wire.DEGRADED
    url = launch.grants["archive"]["get"]
    words = f"publish: forbidden: the service account {GUEST} may not PUT {url}"
    assert words in [event["MESSAGE"] for event in guest.events]


def test_a_machine_with_too_few_scopes_says_which_it_has(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.give_token(3600, READ_ONLY)
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    assert guest.publish() == wire.DEGRADED
    url = launch.grants["archive"]["get"]
    words = f"forbidden: may not PUT {url} with this machine's scopes: devstorage.read_only"
    assert f"publish: {words}" in [event["MESSAGE"] for event in guest.events]


def test_a_token_is_fetched_once_and_goes_nowhere_else(
    parts: Parts, cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    del parts
    assert_comes_from(new_guest("guest", launch), "install")
    # Of the machine itself, and of the process that sends the report before.
    assert 1 <= cloud.asked_for_token <= 2
    assert not any("ya29" in request for request in cloud.front.requests)


def test_a_token_that_ends_in_between_is_fetched_anew(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    first = new_guest("first", launch)
    assert_comes_from(first, "install")
    old = cloud.give_token()
    may = cloud.front.may

    def end_it(who: str, permission: str, name: str) -> bool:
        if name.endswith("env.tar.zst") and not cloud.front.sessions[old].revoked:
            cloud.front.sessions[old].revoked = True
            cloud.give_token()
        return may(who, permission, name)

    cloud.front.may = end_it
    assert first.publish() == wire.READY
    assert cloud.front.refused == ["AuthenticationRequired"]
    old = cloud.give_token()
    assert_comes_from(new_guest("second", launch), "archive")
    assert set(cloud.front.refused) == {"AuthenticationRequired"}


def test_a_token_that_stays_expired_is_told_and_the_machine_installs(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.give_token(-5)
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert guest.reasons.startswith("fetch: expired: http://127.0.0.1:")
    assert "(HTTP 401 AuthenticationRequired" in guest.reasons
    assert guest.publish() == wire.DEGRADED


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_off_by_an_hour_works(
    cloud: Cloud, launch: Launch, new_guest: NewGuest, tmp_path: Path, seconds: int
) -> None:
    for name, source in (("first", "install"), ("second", "archive")):
        guest = new_guest(name, launch)
        shift_clock(guest, tmp_path, seconds)
        assert_comes_from(guest, source)
        assert guest.publish() == wire.READY
    assert cloud.front.refused == []


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_burst_of_faults_is_waited_out(
    cloud: Cloud, launch: Launch, new_guest: NewGuest, status: int
) -> None:
    first, second = new_guest("first", launch), new_guest("second", launch)
    cloud.front.strike("GET .*index.json", 2, status)
    assert_comes_from(first, "install")
    cloud.front.strike("PUT .*env.tar.zst", 2, status)
    cloud.front.strike("PUT .*index.json", 1, status)
    assert first.publish() == wire.READY
    cloud.front.strike("GET .*env.tar.zst", 3, status)
    assert_comes_from(second, "archive")


def test_an_answer_to_a_report_that_was_lost_is_no_fault(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.front.strike("PUT .*-result.json", 1, "lose the answer")
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    assert not [event for event in guest.events if "report" in event["MESSAGE"]]
    assert read_documents(cloud.store, "launch")["guest"]["result"] == guest.result


@pytest.mark.parametrize("auth", list(Auth), ids=lambda auth: auth.value)
def test_of_several_publishers_at_once_all_are_content(
    parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path, auth: Auth
) -> None:
    launch = make_launch(parts, cloud.store, tmp_path / "cache", auth=auth)
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
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    first, second = new_guest("first", launch), new_guest("second", launch)
    assert_comes_from(first, "install")
    assert first.publish() == wire.READY
    assert_comes_from(second, "archive")
    before, start = modified(cloud, launch), len(cloud.front.requests)
    cloud.front.age = 86_500
    assert (first.publish(), second.publish()) == (wire.READY, wire.READY)
    cloud.front.age = 0
    assert modified(cloud, launch) == before
    assert [each for each in cloud.front.requests[start:] if "/base/" in each] == []


def test_rare_modules_are_fetched_with_the_token(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    del cloud
    guest = new_guest("guest", launch)
    for name in ("explain", "pack", "publish", "run", "watch", "aws"):
        (guest.lib / f"agent/{name}.py").unlink()
    assert guest.boot() == wire.READY
    assert guest.publish() == wire.READY
    assert (guest.lib / "agent/pack.py").exists()


def test_a_machine_without_an_account_says_so_and_installs(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.metadata.take_account()
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert "this machine has no service account: it was started without one" in guest.reasons


def test_a_metadata_server_out_of_reach_is_told(launch: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", launch)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    guest.environment["GCE_METADATA_HOST"] = host
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert f"the metadata server at {host} cannot be reached (Conn" in guest.reasons


def test_a_metadata_server_that_refuses_is_told(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.metadata.refusal = 503
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert f"the metadata server at {cloud.host} answers HTTP 503" in guest.reasons


def test_an_account_that_comes_late_is_waited_for(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.metadata.take_account()
    guest = new_guest("guest", launch)
    process = guest.start("boot")
    while len(cloud.metadata.requests) < 3:
        assert process.poll() is None
    cloud.give_token()
    assert process.wait(60) == wire.READY
    assert process.communicate()[0] == ""
