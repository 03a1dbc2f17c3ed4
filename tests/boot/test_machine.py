"""The machinery itself: what it lets pass, and what it does not."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.boot.machine import BootError, Spec, boot
from tests.index import serve_folder

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]

BOOTHOOK = b"#cloud-boothook\n#!/bin/sh\necho dropped > /root/dropped\n"


@pytest.mark.parametrize("datasource", ["nocloud", "ec2"])
def test_a_machine_runs_its_user_data_and_ends_as_done(
    root: Path, tmp_path: Path, datasource: str
) -> None:
    commands = {"kernel": "uname -s", "fails": "exit 3"}
    spec = Spec(user_data=BOOTHOOK, datasource=datasource, commands=commands)  # type: ignore[arg-type]
    with boot(f"machine-{datasource}", spec, root=root, folder=tmp_path / "m") as machine:
        report = machine.wait(60)
    assert report.text("/root/dropped") == "dropped\n"
    assert report.output("kernel") == "Linux"
    assert report.code("fails") == 3
    assert "status: done" in report.output("cloud-init-status")
    assert report.output("is-active") == "inactive"
    assert report.output("failed") == ""
    assert any("envboot-test" in record.get("UNIT", "") for record in report.journal())
    if machine.metadata:
        assert ("GET", "/2021-03-23/user-data") in machine.metadata.requests


def test_a_machine_that_ends_by_itself_without_the_collector_fails(
    root: Path, tmp_path: Path
) -> None:
    spec = Spec(user_data=b"#cloud-boothook\n#!/bin/sh\npoweroff -f\n")
    with (
        boot("machine-off", spec, root=root, folder=tmp_path / "m") as machine,
        pytest.raises(BootError, match="ended with 0, not 77"),
    ):
        machine.wait(60)


def test_a_machine_that_hangs_meets_its_deadline_and_leaves_nothing(
    root: Path, tmp_path: Path
) -> None:
    spec = Spec(user_data=b"#cloud-boothook\n#!/bin/sh\nsleep 600\n")
    with (
        boot("machine-hangs", spec, root=root, folder=tmp_path / "m") as machine,
        pytest.raises(BootError, match="still ran after 4 s"),
    ):
        machine.wait(4)
    assert "m/merged" not in Path("/proc/self/mounts").read_text()
    deadline = time.monotonic() + 5  # the kernel ends what was inside a moment later
    while (left := _running("machine-hangs")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


FAILING = """\
import pytest
from tests.boot.conftest import root
from tests.boot.machine import Spec, boot

HOOK = b"#cloud-boothook\\n#!/bin/sh\\necho on-the-console >/dev/console; logger in-the-journal\\n"

@pytest.mark.boot
def test_that_fails(root, tmp_path):
    with boot("machine-shown", Spec(user_data=HOOK), root=root, folder=tmp_path / "m") as machine:
        machine.wait(60)
    assert "what is wrong" == "elsewhere"

"""


def test_a_test_that_fails_shows_console_and_journal_of_its_machines(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    words = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    words += ["--rootdir=.", f"--basetemp={tmp_path}/inner", str(tmp_path / "test_failing.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    _, console, journal = re.split("-+ (?:console|journal) of machine-shown -+", done.stdout)
    assert "on-the-console" in console
    assert "in-the-journal" in journal


def _running(name: str) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if _names(path, name)]


def _names(path: Path, name: str) -> bool:
    try:
        return name.encode() in path.read_bytes()
    except OSError:
        return False


def test_several_machines_run_at_once_and_reach_only_the_ports_they_were_given(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("served")
    fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
    with serve_folder(tmp_path) as given, serve_folder(tmp_path) as other:
        commands = {
            "given": f"python3 -c '{fetch}' {given}/file",
            "other": f"python3 -c '{fetch}' {other}/file",
            "links": "ls /sys/class/net",
        }
        port = int(given.rpartition(":")[2])
        spec = Spec(user_data=BOOTHOOK, ports=(port,), commands=commands)
        with (
            boot("machine-one", spec, root=root, folder=tmp_path / "one") as one,
            boot("machine-two", spec, root=root, folder=tmp_path / "two") as two,
        ):
            reports = [one.wait(60), two.wait(60)]
    for report in reports:
        assert report.output("given") == "served"
        assert "Connection refused" in report.output("other")
        assert report.output("links").split() == ["lo"]
