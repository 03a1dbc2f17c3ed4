"""What the agent tells the machine: systemd's notify socket and journal, as real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import struct
import tempfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.agent.guests import Guest, Launch

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

# The agent's paths are fixed on a real machine: these are shown to it, and to nobody else.
NAMESPACE = """
mount --bind "$1/opt" /opt
mount --bind "$1/var/lib" /var/lib
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$2" /run/systemd/journal
shift 2
exec "$@"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="eb") as name:
        yield Path(name)


@contextlib.contextmanager
def listen(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listener.bind(address)
        listener.setblocking(False)
        yield listener


def receive_all(listener: socket.socket) -> list[bytes]:
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(listener.recv(1 << 20))
    return messages


def parse_record(data: bytes) -> dict[str, str]:
    """Read systemd's native protocol in its binary form (JOURNAL_NATIVE_PROTOCOL)."""
    record = {}
    while data:
        name, _, data = data.partition(b"\n")
        assert b"=" not in name, "the short form breaks on line feeds"
        (size,) = struct.unpack("<Q", data[:8])
        record[name.decode()] = data[8 : 8 + size].decode()
        assert data[8 + size : 9 + size] == b"\n"
        data = data[9 + size :]
    return record


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told_each_stage_and_ready_once(
    hit: Launch, new_guest: NewGuest, folder: Path, abstract: bool
) -> None:
    guest = new_guest("guest", hit)
    name = f"@envboot-{secrets.token_hex(8)}" if abstract else f"{folder}/notify"
    guest.environment["NOTIFY_SOCKET"] = name
    with listen(name.replace("@", "\0")) as listener:
        assert guest.boot() == wire.READY
        messages = [message.decode() for message in receive_all(listener)]
    states = [line for message in messages for line in message.splitlines()]
    assert [line for line in states if not line.startswith("STATUS=")] == ["READY=1"]
    assert states[0] == "STATUS=probe"
    assert "STATUS=fetch 1 of 1 MB" in states
    assert "READY=1" in messages[-1]
    assert "STATUS=ready in " in messages[-1]


def test_systemd_is_never_told_ready_of_what_failed(
    hit: Launch, new_guest: NewGuest, folder: Path
) -> None:
    guest = new_guest("guest", replace(hit, config={"digest": "sha256:other"}))
    guest.environment["NOTIFY_SOCKET"] = f"{folder}/notify"
    with listen(f"{folder}/notify") as listener:
        assert guest.boot() == wire.FAILED
        messages = receive_all(listener)
    assert not any(b"READY=1" in message for message in messages)
    assert messages[-1].startswith(b"STATUS=failed: the manifest is sha256:")


def test_a_notify_socket_without_a_listener_harms_nothing(hit: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", hit)
    guest.environment["NOTIFY_SOCKET"] = "/nowhere/notify"
    assert guest.boot() == wire.READY


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount name space needs root")
def test_the_journal_gets_a_record_with_stable_fields_of_each_stage(
    hit: Launch, published: Guest, new_guest: NewGuest, bucket: Path, folder: Path
) -> None:
    archive = bucket / hit.base_key / "env.tar.zst"
    archive.write_bytes(archive.read_bytes()[:-1] + b"\n")
    guest = new_guest("guest", hit)
    del guest.environment["ENVBOOT_ROOT"]
    guest.wrap = ["unshare", "-m", "sh", "-ec", NAMESPACE, "sh", str(guest.root), str(folder)]
    with listen(f"{folder}/socket") as listener:
        assert guest.boot() == wire.DEGRADED
        assert guest.publish() == wire.READY
        records = [parse_record(data) for data in receive_all(listener)]
    assert guest.code() == published.code()
    assert records == [
        {name: str(value) for name, value in event.items() if name != "time"}
        for event in guest.events
    ], "the journal and events.jsonl tell the same story"
    kinds = {identity: kind for kind, identity in wire.MESSAGE_IDS.items()}
    told = [(kinds[r["MESSAGE_ID"]], r["ENVBOOT_STAGE"], r["PRIORITY"]) for r in records]
    assert told == [
        ("stage", "probe", "6"),
        ("stage", "fetch", "4"),
        ("archive-refused", "fetch", "4"),
        ("stage", "install", "6"),
        ("stage", "verify", "6"),
        ("stage", "activate", "6"),
        ("ready", "ready", "6"),
    ]
    assert {r["SYSLOG_IDENTIFIER"] for r in records} == {"envboot"}
    assert {r["ENVBOOT_DIGEST"] for r in records} == {hit.manifest.environment_digest}
    assert all(int(r["ENVBOOT_MS"]) >= 0 for r in records if kinds[r["MESSAGE_ID"]] == "stage")
    assert "corrupt: the frame" in records[2]["ENVBOOT_ERROR"]
    assert records[6]["ENVBOOT_SOURCE"] == "install"


def test_every_kind_of_record_has_its_entry_in_the_catalog() -> None:
    catalog = files("envboot.templates").joinpath("envboot.catalog").read_text()
    entries = {line.split()[1] for line in catalog.splitlines() if line.startswith("-- ")}
    assert entries == set(wire.MESSAGE_IDS.values())


def test_the_status_file_always_is_a_whole_document(hit: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", hit)
    status, seen = guest.root / "run/envboot/status.json", set()
    process = guest.start("boot")
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            seen.add(json.loads(status.read_text())["stage"])
    assert process.communicate()[0] == ""
    assert json.loads(status.read_text()) == {
        "stage": "ready",
        "environment": hit.manifest.environment_digest,
        "done": 0,
        "total": 0,
    }
    assert "fetch" in seen
