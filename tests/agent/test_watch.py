"""Notices of the cloud, as the metadata service gives them, and the user's hook."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import wire
from tests.boot.gce_metadata import serve_gce_metadata
from tests.boot.metadata import serve_metadata
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Guest, Launch
    from tests.boot.gce_metadata import GceMetadataServer
    from tests.boot.metadata import MetadataServer

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
INTERRUPTION = "meta-data/spot/instance-action"
REBALANCE = "meta-data/events/recommendations/rebalance"
WHEN = "2026-11-24T08:22:00Z"
HOOK = 'echo "$ENVBOOT_NOTICE $ENVBOOT_NOTICE_TIME $(command -v python)" >>"$OUT"; exit 3'


@pytest.fixture
def watched(hit: Launch, new_guest: NewGuest) -> Iterator[tuple[Guest, MetadataServer]]:
    """A machine that is ready and watches, with the service that gives it notices."""
    with serve_metadata() as (metadata, endpoint):
        hit.config["watch"] = {"hook": HOOK}
        guest = new_guest("guest", hit)
        guest.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = endpoint
        guest.environment["OUT"] = str(guest.root / "hook")
        assert guest.boot() == wire.READY
        yield guest, metadata


def watch_until(guest: Guest, done: Callable[[], bool], seconds: float = 20) -> str:
    """Let the machine watch until something is so; returns what it printed."""
    process = guest.start("watch")
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    printed: str = process.communicate(timeout=10)[0]
    assert "Traceback" not in printed
    assert done(), printed
    return printed


def told(guest: Guest) -> list[dict[str, Any]]:
    return [e for e in guest.events if e["MESSAGE_ID"] == wire.MESSAGE_IDS["notice"]]


def test_a_notice_is_told_and_runs_the_hook_once(
    watched: tuple[Guest, MetadataServer], store: LocalStore
) -> None:
    guest, metadata = watched
    metadata.tree[INTERRUPTION] = json.dumps({"action": "terminate", "time": WHEN})
    printed = watch_until(guest, lambda: len(told(guest)) == 2)
    assert printed == (f"notice: spot-interruption at {WHEN}\nnotice: the hook ended with 3\n")
    python = guest.env / "bin/python"
    assert (guest.root / "hook").read_text() == f"spot-interruption {WHEN} {python}\n"
    first, ended = told(guest)
    assert first["ENVBOOT_NOTICE"] == "spot-interruption"
    assert first["ENVBOOT_NOTICE_TIME"] == WHEN
    assert first["ENVBOOT_ACTION"] == "terminate"
    assert ended["ENVBOOT_EXIT_CODE"] == 3
    wanted = {"notice": "spot-interruption", "action": "terminate", "time": WHEN, "exit_code": 3}

    def is_reported() -> bool:
        return read_documents(store, "launch")["guest"].get("notice") == wanted

    # After a restart nothing is done again; the report had its time to go up.
    asked = len(metadata.requests)
    watch_until(guest, lambda: len(metadata.requests) > asked + 3)
    assert is_reported()
    assert len(told(guest)) == 2
    assert len((guest.root / "hook").read_text().splitlines()) == 1
    assert guest.agent("status") == wire.READY


def test_a_hook_has_the_secrets_of_this_instances_seat(
    watched: tuple[Guest, MetadataServer],
) -> None:
    guest, metadata = watched
    seat = {"rank": 0, "environment": {"OUT": str(guest.root / "of the seat")}}
    (guest.state / "seat.json").write_text(json.dumps(seat))
    metadata.tree[INTERRUPTION] = json.dumps({"action": "terminate", "time": WHEN})
    watch_until(guest, lambda: len(told(guest)) == 2)
    assert "spot-interruption" in (guest.root / "of the seat").read_text()


def test_another_notice_is_another_matter(watched: tuple[Guest, MetadataServer]) -> None:
    guest, metadata = watched
    lines = guest.root / "hook"

    def count() -> int:
        return len(lines.read_text().splitlines()) if lines.exists() else 0

    metadata.tree[REBALANCE] = json.dumps({"noticeTime": WHEN})
    watch_until(guest, lambda: count() == 1)
    metadata.tree[REBALANCE] = json.dumps({"noticeTime": "2026-11-24T09:00:00Z"})
    watch_until(guest, lambda: count() == 2)
    metadata.tree[INTERRUPTION] = json.dumps({"action": "stop", "time": WHEN})
    watch_until(guest, lambda: count() == 3)
    assert [line.split()[:2] for line in lines.read_text().splitlines()] == [
        ["rebalance", WHEN],
        ["rebalance", "2026-11-24T09:00:00Z"],
        ["spot-interruption", WHEN],
    ]


def test_a_service_out_of_reach_is_told_once_and_asked_again(
    watched: tuple[Guest, MetadataServer],
) -> None:
    guest, metadata = watched
    metadata.refusal = 403
    printed = watch_until(guest, lambda: len(metadata.requests) >= 2)
    assert printed.count("is turned off (HTTP 403)") == 1
    assert told(guest) == []


@pytest.fixture
def on_google(hit: Launch, new_guest: NewGuest) -> Iterator[tuple[Guest, GceMetadataServer]]:
    """A machine of Compute Engine that is ready and watches, with its metadata server."""
    with serve_gce_metadata() as (metadata, address):
        hit.config["watch"] = {"kind": "gcp", "hook": HOOK}
        guest = new_guest("guest", hit)
        guest.environment["GCE_METADATA_HOST"] = address
        guest.environment["OUT"] = str(guest.root / "hook")
        metadata.tree["instance/maintenance-event"] = "NONE"
        assert guest.boot() == wire.READY
        yield guest, metadata


def test_googles_words_are_notices_too_each_once_until_it_is_taken_back(
    on_google: tuple[Guest, GceMetadataServer], store: LocalStore
) -> None:
    guest, metadata = on_google
    lines = guest.root / "hook"

    def words() -> list[str]:
        return (
            [line.split()[0] for line in lines.read_text().splitlines()] if lines.exists() else []
        )

    asked = len(metadata.requests)
    watch_until(guest, lambda: len(metadata.requests) >= asked + 2)
    assert words() == []
    metadata.tree["instance/maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
    watch_until(guest, lambda: words() == ["maintenance"])
    metadata.tree["instance/maintenance-event"] = "NONE"
    metadata.tree["instance/preempted"] = "TRUE"
    kept = guest.state / "notices.json"
    # The machine must have seen that the first one is over: the hook may run before that.
    watch_until(guest, lambda: len(words()) == 2 and "maintenance" not in kept.read_text())
    assert words() == ["maintenance", "spot-interruption"]
    # It is still so; the other one is over, and comes again.
    metadata.tree["instance/maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    watch_until(guest, lambda: len(words()) == 3)
    assert words() == ["maintenance", "spot-interruption", "maintenance"]
    assert [notice["ENVBOOT_NOTICE"] for notice in told(guest)][:1] == ["maintenance"]
    report = read_documents(store, "launch")["guest"]["notice"]
    assert (report["notice"], report["action"]) == ("maintenance", "terminate")
