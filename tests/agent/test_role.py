"""Access by the machine's own role: a real S3 server, temporary credentials, emulated IMDSv2."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from bootstrap.agent import wire
from bootstrap.publish import Auth, read_reports
from bootstrap.store.s3 import S3Store
from tests.agent.gate import Gate
from tests.agent.guests import SITE, Guest, Launch, Parts, make_launch, make_layer, make_manifest
from tests.agent.proxy import running
from tests.boot.metadata import serve_metadata
from tests.servers import s3_bucket, s3_server  # noqa: F401 - fixtures
from tests.userdata.conftest import find_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.boot.metadata import MetadataServer
    from tests.servers import S3Server

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
ROLE = "envboot-guest"
ROLE_PATH = f"meta-data/iam/security-credentials/{ROLE}"
# What the agent takes for the time; its folder comes behind it on the command line.
CLOCK = """
import runpy, sys, time
real = time.time
time.time = lambda: real() + {seconds}
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """A bucket behind a gate that roles pass, and the metadata service that gives them one."""

    store: S3Store
    gate: Gate
    metadata: MetadataServer
    endpoint: str

    def give_role(self, seconds: float) -> str:
        """Let the metadata service give new credentials; returns their access key."""
        credentials = self.gate.issue(seconds)
        self.metadata.tree[ROLE_PATH] = json.dumps(credentials)
        return credentials["AccessKeyId"]

    @property
    def asked_for_role(self) -> int:
        """How often credentials were fetched."""
        return sum(path == f"/latest/{ROLE_PATH}" for _, path in self.metadata.requests)


@pytest.fixture
def cloud(s3_bucket: str, s3_server: S3Server) -> Iterator[Cloud]:  # noqa: F811
    """An empty bucket, and a role that may do everything in it for an hour."""
    gate = Gate(s3_server.endpoint, s3_server.admin)
    with (
        S3Store(f"s3://{s3_bucket}/team envs") as store,
        running(gate),
        serve_metadata() as (metadata, endpoint),
    ):
        found = Cloud(store=store, gate=gate, metadata=metadata, endpoint=endpoint)
        found.give_role(3600)
        yield found


@pytest.fixture
def launch(parts: Parts, cloud: Cloud, tmp_path: Path) -> Launch:
    """A launch whose guests ask with their role."""
    return by_role(cloud, make_launch(parts, cloud.store, tmp_path / "cache", auth=Auth.ROLE))


def by_role(cloud: Cloud, launch: Launch) -> Launch:
    """Lead the launch's guests through the gate."""
    return replace(launch, grants=cloud.gate.redirect(launch.grants))


@pytest.fixture
def new_guest(tmp_path: Path, cloud: Cloud) -> NewGuest:
    """Return a maker of fresh machines that have the role."""

    def make(name: str, launch: Launch) -> Guest:
        guest = Guest(tmp_path / name, launch)
        guest.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = cloud.endpoint
        return guest

    return make


def shift_clock(guest: Guest, folder: Path, seconds: int) -> None:
    """Let the agent's clock be off by that much."""
    script = folder / f"clock{seconds}.py"
    script.write_text(CLOCK.format(seconds=seconds))
    guest.python = [*guest.python, str(script)]


def assert_comes_from(guest: Guest, source: str, code: int = wire.READY) -> None:
    assert guest.boot() == code, guest.reasons
    assert guest.result["source"] == source
    assert guest.says() == "alpha beta"


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_every_python_installs_publishes_and_fetches_as_its_role(
    cloud: Cloud, launch: Launch, new_guest: NewGuest, version: str
) -> None:
    python = [find_python(version), "-I", "-bb", "-W", "error"]
    first, second = new_guest("first", launch), new_guest("second", launch)
    for guest, source in ((first, "install"), (second, "archive")):
        guest.python = python
        assert_comes_from(guest, source)
        assert guest.publish() == wire.READY
    assert first.code() == second.code()
    reports = read_reports(cloud.store, "launch", {})
    assert reports["first"].keys() == {"started", "result", "publish"}
    assert reports["second"]["result"] == second.result
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


def test_credentials_are_fetched_once_and_the_token_goes_nowhere_else(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    assert_comes_from(new_guest("guest", launch), "install")
    assert {method for method, _ in cloud.metadata.requests[:1]} == {"PUT"}
    # Of the machine itself, and of the process that sends the report before.
    assert cloud.asked_for_role <= 2
    assert not any("token" in request.lower() for request in cloud.gate.requests)


def test_credentials_that_end_in_between_are_fetched_anew(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    first = new_guest("first", launch)
    assert_comes_from(first, "install")
    old = cloud.give_role(3600)
    may = cloud.gate.may

    def end_them(method: str, key: str) -> bool:
        if key.endswith("env.tar.zst") and not cloud.gate.sessions[old].revoked:
            cloud.gate.sessions[old].revoked = True
            cloud.give_role(3600)
        return may(method, key)

    cloud.gate.may = end_them
    assert first.publish() == wire.READY
    assert cloud.gate.refused == ["ExpiredToken"]
    old = cloud.give_role(3600)
    assert_comes_from(new_guest("second", launch), "archive")
    assert set(cloud.gate.refused) == {"ExpiredToken"}, "each process learns it for itself"


def test_credentials_are_fetched_anew_before_they_end(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    soon = cloud.give_role(300)
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.READY
    cloud.give_role(3600)
    del cloud.gate.sessions[soon]
    assert guest.publish() == wire.READY
    assert cloud.gate.refused == []


def test_credentials_that_stay_expired_are_told_and_the_machine_installs(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.give_role(-5)
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert guest.reasons.startswith("fetch: expired: http://127.0.0.1:")
    assert guest.reasons.endswith("(HTTP 400 ExpiredToken)")
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
    assert set(cloud.gate.refused) == {"RequestTimeTooSkewed"}
    assert read_reports(cloud.store, "launch", {})["second"].keys() == {"started", "result"}


def test_a_large_upload_is_not_begun_with_a_clock_that_is_off(
    cloud: Cloud, launch: Launch, new_guest: NewGuest, tmp_path: Path
) -> None:
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    shift_clock(guest, tmp_path, 3600)
    cloud.gate.hasty = True
    assert guest.publish() == wire.READY
    assert "hasty RequestTimeTooSkewed" not in cloud.gate.refused


def test_a_machine_without_a_role_says_so_and_installs(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    del cloud.metadata.tree[ROLE_PATH]
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert "this machine has no role: it was started without instance profile" in guest.reasons


def test_a_role_that_comes_late_is_waited_for(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    kept = cloud.metadata.tree.pop(ROLE_PATH)
    guest = new_guest("guest", launch)
    process = guest.start("boot")
    while len(cloud.metadata.requests) < 6:
        assert process.poll() is None
    cloud.metadata.tree[ROLE_PATH] = kept
    assert process.wait(60) == wire.READY
    assert process.communicate()[0] == ""


def test_a_role_without_credentials_is_told_in_the_clouds_own_words(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.metadata.tree[ROLE_PATH] = '{"Code": "AssumeRoleUnauthorizedAccess"}'
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    words = f'the role {ROLE} has no credentials: {{"Code": "AssumeRoleUnauthorizedAccess"}}'
    assert words in guest.reasons


def test_a_metadata_service_that_is_turned_off_is_told(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.metadata.refusal = 403
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert f"the metadata service at {cloud.endpoint} is turned off (HTTP 403)" in guest.reasons


def test_a_metadata_service_out_of_reach_is_told(launch: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", launch)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    guest.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = endpoint
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert f"the metadata service at {endpoint} cannot be reached (Conn" in guest.reasons


def test_a_hop_limit_that_keeps_the_token_away_is_told(launch: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", launch)
    # Connections are made, and nothing ever comes back.
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        guest.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = endpoint
        assert_comes_from(guest, "install", wire.DEGRADED)
    assert "lets no token get here: its hop limit keeps containers out" in guest.reasons


def test_a_token_of_before_is_renewed(cloud: Cloud, launch: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", launch)
    forget = cloud.metadata.find

    def find(path: str) -> bytes | None:
        if path.endswith("security-credentials/"):
            cloud.metadata.tokens.clear()
        return forget(path)

    cloud.metadata.find = find  # type: ignore[method-assign]
    assert_comes_from(guest, "install")


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
    assert guest.reasons == f"fetch: forbidden: the role {ROLE} may not GET {url}"


def test_a_role_that_may_not_write_is_told(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    cloud.gate.may = lambda method, key: method == "GET" and bool(key)
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install")
    assert guest.publish() == wire.DEGRADED
    url = launch.grants["archive"]["get"]
    words = f"publish: forbidden: the role {ROLE} may not PUT {url}"
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
    assert read_reports(cloud.store, "launch", {})["guest"]["result"] == guest.result


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


def test_a_base_in_use_is_renewed_once_a_day(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    first, second = new_guest("first", launch), new_guest("second", launch)
    assert_comes_from(first, "install")
    assert first.publish() == wire.READY
    assert_comes_from(second, "archive")
    before = modified(cloud, launch)
    assert second.publish() == wire.READY
    assert modified(cloud, launch) == before, "it is not a day old"
    cloud.gate.age = 86_500
    time.sleep(1.1)
    start = len(cloud.gate.requests)
    assert second.publish() == wire.READY
    after = modified(cloud, launch)
    assert all(after[name] > before[name] for name in before)  # type: ignore[operator]
    puts = [each.rpartition("/")[2] for each in cloud.gate.requests[start:] if each[:3] == "PUT"]
    assert puts == ["index.json", "env.tar.zst", "manifest.json"]
    assert second.events[-1]["MESSAGE"] == "renew: done"
    cloud.gate.age = 0
    third = new_guest("third", launch)
    assert_comes_from(third, "archive")
    assert third.code() == first.code()


def test_who_may_not_write_renews_nothing_and_says_so_quietly(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    first, second = new_guest("first", launch), new_guest("second", launch)
    assert_comes_from(first, "install")
    assert first.publish() == wire.READY
    assert_comes_from(second, "archive")
    cloud.gate.age = 86_500
    cloud.gate.may = lambda method, key: method == "GET" or "/reports/" in key
    assert second.publish() == wire.READY
    last = second.events[-1]
    assert last["MESSAGE"].startswith(f"renew: forbidden: the role {ROLE} may not PUT http")
    assert last["PRIORITY"] == 6


def test_manifest_and_rare_modules_are_fetched_as_the_role(
    cloud: Cloud, launch: Launch, new_guest: NewGuest
) -> None:
    launch.config["command"] = ["python", "-c", "import alpha; print(alpha.NAME)"]
    guest = new_guest("guest", launch)
    key = f"environments/{launch.manifest.environment_digest[7:]}.json"
    launch.grants["manifest"] = {"get": launch.grants["auth"]["url"] + key}
    guest.give(launch)
    (guest.state / "manifest.json").unlink()
    for name in ("explain", "pack", "publish", "renew", "run", "watch"):
        (guest.lib / f"agent/{name}.py").unlink()
    assert guest.boot() == wire.READY
    processes = [guest.start(word) for word in ("run", "publish", "status")]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    assert printed[0] == "alpha\n"
    assert sorted(path.name for path in guest.lib.iterdir() if path.name[0] != "_") == ["agent"]
