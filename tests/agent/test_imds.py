"""Commands run without the metadata service, and with the devices that they need."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from envboot.agent.run import DEVICES
from tests.boot.metadata import ADDRESS
from tests.boot.network import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
UID = 54321
CLOSE = f"""
from envboot.agent import imds, wire
try:
    imds.close({UID})
    print("closed")
except wire.AgentError as error:
    print(error)
"""
# As each user, at each port: the number of the error.
TRY = f"""
import os, socket
def connect(uid, port):
    os.seteuid(uid)
    with socket.socket() as link:
        found = link.connect_ex(("{ADDRESS}", port))
    os.seteuid(0)
    return os.strerror(found) if found else "connected"
for uid in (0, {UID}, {UID + 1}):
    print(*(connect(uid, port) for port in (80, 53, 443)), sep=", ")
"""
GPU = """\
Model: \t\t Tesla T4
IRQ:   \t\t 10
GPU UUID: \t GPU-00000000-0000-0000-0000-000000000000
Bus Type: \t PCIe
Device Minor: \t %d
GPU Excluded:\t No
"""


@pytest.fixture
def network() -> Iterator[Namespace]:
    """A network in which a metadata service listens at its address."""
    namespace = Namespace(f"{ADDRESS}/32")
    listener = namespace.listen(ADDRESS, 80)
    yield namespace
    listener.close()
    namespace.close()


def run(network: Namespace, code: str, *before: str) -> str:
    command = ["nsenter", f"--net={network.path}", *before, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_root
def test_the_metadata_service_is_closed_to_one_user_and_its_name_server_is_not(
    network: Namespace,
) -> None:
    found = ["connected, Connection refused, Connection refused"] * 3
    assert run(network, TRY).splitlines() == found
    assert run(network, CLOSE) == "closed"
    found[1] = "Permission denied, Connection refused, Permission denied"
    assert run(network, TRY).splitlines() == found
    # As when a command is started again.
    assert run(network, CLOSE) == "closed"


@needs_root
def test_a_command_does_not_start_where_the_service_cannot_be_closed(network: Namespace) -> None:
    said = run(network, CLOSE, "setpriv", "--bounding-set=-net_admin")
    assert f"{ADDRESS} port 80: it answers" in said
    assert "Operation not permitted" in said
    assert "--imds allow" in said


def test_device_files_of_gpus_are_made_before_nobody_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minor in (0, 1):
        folder = tmp_path / f"gpus/0000:00:1{minor}.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(GPU % minor)
    program = tmp_path / "bin/nvidia-modprobe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/said\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    subprocess.run(["sh", "-c", DEVICES.replace("/proc/driver/nvidia", str(tmp_path))], check=True)
    first, memory, devices = (tmp_path / "said").read_text().splitlines()
    assert (first, memory) == ("", "-u -c=0")
    assert sorted(devices.split()) == ["-c=0", "-c=1", "-c=255"]
