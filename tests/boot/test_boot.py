"""Whole boots: the rendered document, cloud-init, systemd, the agent, the bucket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from envboot.fleet.peers import Seat, write_seats
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import key_secret
from envboot.userdata import Job, LaunchPath, Rung, render
from envboot.userdata.parts import parse_part
from envboot_provisioners import Instance
from tests.boot.environment import Bench, open_bench
from tests.boot.machine import Report, Spec, boot
from tests.channel import NUMPY
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.boot,
    pytest.mark.subprocess,
    pytest.mark.sockets,
    # py-rattler, in the stand-in for micromamba, has been seen to crash in a booted machine.
    pytest.mark.flaky(reruns=1, only_rerun=[r"micromamba failed \(-11\)"]),
]

CODE = """
import importlib.metadata as metadata, os, sys
import markupsafe, numpy, tabulate, tiny_000
print(sys.prefix, numpy.__version__, os.environ["GREETING"], os.environ["NATIVE_TOOL_HOME"])
"""
COMMAND = ("python", "-c", CODE)
COUNT = """
import importlib.metadata as metadata, markupsafe, tiny_000
print(len(list(metadata.distributions())))
"""
# What a machine that shows something else need not install, compile and pack.
SMALL = ("python",)
FOREIGN = b"""#cloud-config
runcmd:
  - [sh, -c, "echo ran > /root/foreign-runcmd"]
write_files:
  - {path: /root/foreign-file, content: "written"}
"""
PREFIX = "/opt/envboot/env"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("bench"), tiny=400) as made:
        yield made


def result(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(report.text("/var/lib/envboot/result.json"))
    return document


def assert_ready(report: Report, source: str) -> None:
    """Every place that says whether the environment is ready says so."""
    assert report.output("is-active") == "active", report.output("journal")
    assert result(report)["outcome"] == "ready", report.output("journal")
    assert result(report)["source"] == source, report.output("journal")
    assert "status: done" in report.output("cloud-init-status")
    assert report.output("failed") == ""


def test_the_first_machine_installs_and_publishes_and_the_next_fetches(
    bench: Bench, root: Path, tmp_path: Path
) -> None:
    manifest = bench.manifest()
    for source in ("install", "archive"):
        grants = bench.publish(manifest, f"boot-{source}")
        document = render(
            manifest,
            launch_path=LaunchPath.NOCLOUD,
            grants=grants,
            parts=[parse_part("foreign.yaml", FOREIGN)],
            job=Job(command=COMMAND, environment={"GREETING": "hello"}),
        )
        spec = Spec(
            user_data=document.payload,
            ports=bench.ports(grants),
            files=bench.mirror,
            commands={
                "schema": "cloud-init schema --system",
                "verify": "envboot-agent verify --json",
                "mode": "stat -c %a /var/lib/envboot",
                "stranger": "setpriv --reuid=envboot envboot-agent status",
            },
        )
        with boot(f"boot-{source}", spec, root=root, folder=tmp_path / source) as machine:
            report = machine.wait(120)
        assert_ready(report, source)
        home = f"{PREFIX}/share/native-tool"
        lines = report.output("run-journal")
        assert f"{PREFIX} {NUMPY} hello {home}" in lines
        assert report.text("/root/foreign-runcmd") == "ran\n"
        assert report.text("/root/foreign-file") == "written"
        assert "Valid cloud-config" in report.output("schema")
        assert "Subject:" in report.output("explanation")
        assert report.code("verify") == 0, report.output("verify")
        assert json.loads(report.output("verify"))["differences"] == []
        assert report.output("mode") == "700"
        assert "sudo envboot-agent status" in report.output("stranger")
        assert "Main PID" in report.output("status")
        records = report.journal(f"ENVBOOT_DIGEST={manifest.environment_digest}")
        assert {"probe", "verify", "activate"} <= {record["ENVBOOT_STAGE"] for record in records}


@pytest.mark.parametrize(
    ("packages", "rungs"),
    [
        (60, {Rung.EXTRAS, Rung.MANIFEST}),
        (400, {Rung.MANIFEST, Rung.BOTH}),
    ],
)
def test_a_document_of_many_packages_boots_on_ec2(
    bench: Bench, root: Path, tmp_path: Path, packages: int, rungs: set[Rung]
) -> None:
    manifest = bench.manifest(conda=SMALL, tiny=packages - 3)
    grants = bench.publish(manifest, f"boot-{packages}")
    document = render(
        manifest,
        launch_path=LaunchPath.EC2,
        grants=grants,
        job=Job(command=("python", "-c", COUNT), environment={"GREETING": "hello"}),
    )
    assert document.rung in rungs
    assert len(document.payload) <= 16_384
    ports = bench.ports(grants)
    spec = Spec(user_data=document.payload, datasource="ec2", ports=ports, files=bench.mirror)
    with boot(f"boot-{packages}", spec, root=root, folder=tmp_path / "m") as machine:
        report = machine.wait(180)
    assert_ready(report, "install")
    # All but Python itself are distributions.
    assert str(packages - 1) in report.output("run-journal").splitlines()


SEATED = """
cd; echo "$ENVBOOT_RANK $ENVBOOT_COUNT $ENVBOOT_PEERS $(id -un) $(printf %s "$KEY" | wc -c)" \
  "$(printf %s "$PASSED" | wc -c) $(cat /run/envboot/secrets.json 2>&1 | grep -c denied)" >>runs
echo "$PASSED"; echo $$ >pid; exec sleep 600
"""
UNIT = "envboot-dask-worker"


def test_a_seat_is_the_commands_own_and_the_unit_starts_it_again(
    bench: Bench, root: Path, tmp_path: Path
) -> None:
    # The first test's, whose archive is there by now.
    manifest, secret, passed = bench.manifest(), "only-for-one-machine", "in-memory-alone"
    grants = bench.publish(manifest, "boot-seat", seats=0)
    names = ("i-boot-seat", "i-other")
    instances = [
        Instance(name=name, launch="boot-seat", address=f"10.0.0.{number}")
        for number, name in enumerate(names)
    ]
    seats = [Seat(1, secret={"KEY": secret}, passing={"PASSED": passed}), Seat(0)]
    write_seats(
        bench.store,
        Terms(launch="boot-seat", auth=Auth.URLS, seconds=600, seats=0),
        instances,
        seats=seats,
    )
    document = render(
        manifest,
        launch_path=LaunchPath.NOCLOUD,
        grants=grants,
        job=Job(command=["sh", "-c", SEATED], unit=UNIT),
    )
    until = "until [ $(cat /home/envboot/runs 2>/dev/null | wc -l) = %d ]; do sleep 0.1; done; "
    old = "old=$(cat /home/envboot/pid); "
    commands = {
        "a-start": until % 1 + "sleep 0.3",
        "b-reload": f"{old} systemctl reload {UNIT}; {until % 2} ! kill -0 $old",
        "c-fail": f"sleep 0.5; kill -KILL $(cat /home/envboot/pid); {until % 3} sleep 0.3",
        "d-mode": "stat -c '%U %a' /var/lib/envboot/seat.json",
        "e-active": f"systemctl is-active {UNIT}; systemctl is-enabled envboot-run",
        "f-secret": f"journalctl --no-pager | grep -c -e {secret} -e {passed}",
        "g-memory": "stat -f -c %T /run/envboot/secrets.json; "
        "stat -c '%U %a' /run/envboot/secrets.json",
        "h-disk": "grep -rl in-memory-alon[e] /var /etc /home /opt/envboot/lib",
    }
    spec = Spec(
        user_data=document.payload,
        ports=bench.ports(grants),
        files=bench.mirror,
        commands=commands,
    )
    with boot("boot-seat", spec, root=root, folder=tmp_path / "m") as machine:
        report = machine.wait(120)
    assert result(report)["outcome"] == "ready", report.output("journal")
    line = f"1 2 10.0.0.1,10.0.0.0 envboot {len(secret)} {len(passed)} 1"
    assert report.text("/home/envboot/runs").splitlines() == [line] * 3
    assert report.output("d-mode") == "root 600"
    assert report.output("e-active").splitlines()[0] == "active"
    assert report.output("f-secret") == "0"
    assert report.output("g-memory").splitlines() == ["tmpfs", "root 600"]
    assert report.output("h-disk") == ""
    assert bench.store.find(key_secret("boot-seat", names[0])) is None
    reports = read_documents(bench.store, "boot-seat")[names[0]]
    assert reports["seated"] == {"rank": 1, "count": 2}
    assert {"restarted", "command"} <= reports.keys()


def test_a_machine_without_its_packages_says_why_and_is_not_active(
    bench: Bench, root: Path, tmp_path: Path
) -> None:
    manifest = bench.manifest(conda=SMALL, tiny=2)
    grants = bench.publish(manifest, "boot-failed")
    document = render(
        manifest, launch_path=LaunchPath.NOCLOUD, grants=grants, job=Job(command=COMMAND)
    )
    channel, _, store = bench.ports(grants)
    spec = Spec(user_data=document.payload, ports=(channel, store), files=bench.mirror)
    with boot("boot-failed", spec, root=root, folder=tmp_path / "m") as machine:
        report = machine.wait(120)
    assert report.output("is-active") != "active"
    assert result(report)["outcome"] == "failed"
    assert "/simple/tiny-00" in report.output("journal")
    assert report.output("run-is-active") != "active"
