"""A change to a booted machine: its own unit follows, and the command is started anew."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from envboot.publish import publish
from envboot.publish.grants import Terms
from envboot.userdata import Job, LaunchPath, render
from tests.agent.guests import find_signer, make_layer, want
from tests.boot.conftest import root  # noqa: F401 - a fixture
from tests.boot.environment import open_bench
from tests.boot.machine import Spec, boot
from tests.reports import read_documents
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]
FILE = "/opt/envboot/env/mine.txt"
# The machine is looked into when its command has ended.
PROGRAM = f"cat {FILE}; grep -q two {FILE} || exec sleep 600"


def test_a_booted_machine_makes_a_change_and_starts_its_command_anew(
    root: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    with open_bench(tmp_path / "bench", tiny=1) as bench:
        base = bench.manifest(conda=("python",))
        first, packed = make_layer(base, tmp_path / "1", {"mine.txt": b"one\n"})
        second, other = make_layer(base, tmp_path / "2", {"mine.txt": b"two\n"})
        grants = publish(
            first,
            packed,
            bench.store,
            make_session(cache=bench.cache, environment={}),
            Terms(
                launch="launch",
                seconds=3600,
                wanted=1,
                signer=find_signer("launch", bench.cache),
            ),
        )
        document = render(
            first, launch_path=LaunchPath.EC2, grants=grants, job=Job(command=["sh", "-c", PROGRAM])
        )
        commands = {
            "printed": "journalctl -u envboot-run -o cat",
            "here": f"cat {FILE}; ls /opt/envboot/envs | wc -l",
            "following": "systemctl show -p ActiveState,StatusText envboot-sync",
            "told": "journalctl -u envboot-sync -o cat",
        }
        spec = Spec(
            user_data=document.payload,
            datasource="ec2",
            ports=bench.ports(grants),
            files=bench.mirror,
            commands=commands,
        )
        with boot("sync", spec, root=root, folder=tmp_path / "m") as machine:
            end = time.monotonic() + 120
            while "result" not in read_documents(bench.store, "launch").get("i-sync", {}):
                assert time.monotonic() < end
                time.sleep(0.2)
            want(bench.store, bench.cache, 1, second, other, restart=True)
            report = machine.wait(120)
        reports = read_documents(bench.store, "launch")["i-sync"]
    assert reports["synced"]["environment"] == second.environment_digest
    assert report.output("here") == "two\n2"
    assert "one" in report.output("printed")
    assert "two" in report.output("printed").partition("one")[2]
    assert "ActiveState=active" in report.output("following")
    assert "StatusText=sync: wanted 1 is active after" in report.output("following")
    assert "sync: wanted 1 is active after" in report.output("told")
    assert report.output("failed") == ""
