"""Notices on a booted machine with its own cloud-init, IMDSv2 and systemd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from envboot.userdata import Job, LaunchPath, render
from tests.boot.conftest import root  # noqa: F401 - a fixture
from tests.boot.environment import open_bench
from tests.boot.machine import Spec, boot
from tests.reports import read_documents

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]
WHEN = "2026-11-24T08:22:00Z"
HOOK = 'echo "$(id -un) $PWD $ENVBOOT_NOTICE $ENVBOOT_NOTICE_TIME ${PATH%%:*}" >>/home/envboot/hook'
WAIT = "for i in $(seq 150); do grep -q $0 /home/envboot/hook && break; sleep 0.1; done"


def test_a_booted_machine_runs_the_hook_as_its_user_and_stops_publishing(
    root: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    with open_bench(tmp_path / "bench", tiny=1) as bench:
        manifest = bench.manifest(conda=("python",))
        grants = bench.publish(manifest, "watch")
        document = render(
            manifest,
            launch_path=LaunchPath.EC2,
            grants=grants,
            job=Job(command=["true"], watch=True, hook=HOOK),
        )
        commands = {
            "hook": f"sh -c '{WAIT}' spot-interruption; cat /home/envboot/hook",
            "watching": "systemctl show -p ActiveState,StatusText envboot-watch",
            "told": "journalctl -u envboot-watch -o cat",
            "explained": f"journalctl -x MESSAGE_ID={wire.MESSAGE_IDS['notice']}",
            "status": "envboot-agent status",
        }
        spec = Spec(
            user_data=document.payload,
            datasource="ec2",
            ports=bench.ports(grants),
            files=bench.mirror,
            commands=commands,
        )
        with boot("watch", spec, root=root, folder=tmp_path / "m") as machine:
            assert machine.metadata
            action = {"action": "terminate", "time": WHEN}
            machine.metadata.tree["meta-data/spot/instance-action"] = json.dumps(action)
            report = machine.wait(120)
        reports = read_documents(bench.store, "watch")["i-watch"]
    path = "/opt/envboot/env/bin"
    wanted = f"envboot /home/envboot spot-interruption {WHEN} {path}"
    assert report.output("hook") == wanted, report.output("told")
    assert f"StatusText=notice: spot-interruption at {WHEN}" in report.output("watching")
    assert "ActiveState=active" in report.output("watching")
    assert "notice: the hook ended with 0" in report.output("told")
    assert f"The cloud gives notice of spot-interruption, at {WHEN}" in report.output("explained")
    assert f"notice:  spot-interruption at {WHEN}" in report.output("status")
    assert reports["notice"] == {"notice": "spot-interruption", **action, "exit_code": 0}
