"""The script and its units on a booted machine, with an agent that only tells who started it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from envboot.userdata import Job, LaunchPath, render
from tests.boot.conftest import root  # noqa: F401 - a fixture
from tests.boot.machine import Spec, boot
from tests.userdata.conftest import make_manifest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]

# Fails once, then is ready; `run` and `publish` write down how they were started.
AGENT = """
import os, socket, sys, time
word = sys.argv[1]
with open("/var/lib/envboot/started", "a") as file:
    file.write(word + "\\n")
if word == "boot":
    if not os.path.exists("/var/lib/envboot/failed-once"):
        open("/var/lib/envboot/failed-once", "w").close()
        sys.exit("the first attempt fails")
    address = os.environ["NOTIFY_SOCKET"]
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.connect("\\0" + address[1:] if address[0] == "@" else address)
    link.send(b"READY=1\\nSTATUS=ready\\n")
    sys.exit(2)
with open("/var/lib/envboot/" + word, "w") as file:
    file.write("%s %s nice %d" % (os.getcwd(), os.environ.get("HOME"), os.nice(0)))
"""


def test_a_second_attempt_still_starts_the_command_and_the_publishing(
    root: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    document = render(
        make_manifest(3),
        launch_path=LaunchPath.NOCLOUD,
        agent={"__main__.py": AGENT},
        job=Job(command=["true"]),
    )
    commands = {
        "a-first": "cat /var/lib/envboot/started",
        "user": "getent passwd envboot; stat -c '%U %a' /home/envboot",
        "catalog": f"journalctl --list-catalog {wire.MESSAGE_IDS['ready']}",
        "again": "/var/lib/cloud/instance/boothooks/envboot.sh && sleep 1; cat /var/lib/envboot/started",
        "target": "systemctl is-active envboot.target",
    }
    # The pause between attempts is the unit's; a drop-in shortens it here.
    drop_in = "/etc/systemd/system/envboot.service.d/fast.conf"
    spec = Spec(
        user_data=document.payload,
        commands=commands,
        files={drop_in: b"[Service]\nRestartSec=1s\n"},
        patient=True,
    )
    with boot("units", spec, root=root, folder=tmp_path / "m") as machine:
        report = machine.wait(60)
    assert report.output("is-active") == "active", report.output("journal")
    assert report.output("target") == "active"
    # A container's processes begin with the niceness of whoever runs the tests.
    assert report.text("/var/lib/envboot/run") == f"/home/envboot /home/envboot nice {os.nice(0)}"
    assert report.text("/var/lib/envboot/publish") == "/ None nice 19"
    assert report.output("user").endswith(":/home/envboot:/bin/sh\nenvboot 755")
    assert "Environment @ENVBOOT_DIGEST@ is ready" in report.output("catalog")
    assert sorted(report.output("a-first").split()) == ["boot", "boot", "publish", "run"]
    assert report.output("again") == report.output("a-first")
    assert report.output("failed") == ""
    assert "status: done" in report.output("cloud-init-status")
