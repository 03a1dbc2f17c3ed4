"""Credentials that end, come late or never, and clocks that are off."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from tests.agent.role.cloud import ROLE, ROLE_PATH, Cloud, assert_comes_from, shift_clock
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.agent.guests import Guest, Launch

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


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
    assert read_documents(cloud.store, "launch")["second"].keys() == {"started", "result"}


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
    guest.edit("agent/aws.py", "timeout=2", "timeout=.2")
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
