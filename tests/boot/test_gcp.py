"""The whole way on Google Cloud: `envboot launch gcp`, the API, real machines, the bucket, back.

The machines are real, with cloud-init's own GCE datasource or with none but a guest agent.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.userdata import Job, LaunchPath, render
from tests.boot.environment import open_bench
from tests.boot.gce_cloud import BY_ROLE, STORE, Project, open_project
from tests.boot.machine import Spec, boot

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

CODE = "import os, six, sys; print('ran in', sys.prefix, 'as root:', os.getuid() == 0, flush=True)"
SLOW = f"{CODE}; import time; time.sleep(6); print('and ended')"
RAN = "ran in /opt/envboot/env as root: False\n"


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose instances are containers."""
    with open_project(root, tmp_path_factory.mktemp("gcp") / "project") as opened:
        yield opened


@pytest.mark.parametrize(("auth", "image"), [("urls", "ubuntu"), ("role", "debian")])
def test_a_launch_installs_and_publishes_the_next_fetches_and_is_seen_and_ended_from_elsewhere(
    project: Project, auth: str, image: str
) -> None:
    # Where nothing has been published.
    store = f"{STORE}-{auth}"
    project = replace(project, store=store)
    words = [*(BY_ROLE if auth == "role" else ()), "--image", image]
    first = project.launch(*words, "--", "python", "-c", CODE)
    (instance,) = first["instances"]
    assert (instance["outcome"], instance["source"]) == ("ready", "install")
    assert instance["errors"] == []
    assert instance["output"] == RAN
    assert project.gce.alive() == []

    # The other kind of image: what one machine publishes is right for any.
    words[-1] = "debian" if image == "ubuntu" else "ubuntu"
    second = project.launch(*words, "--keep", "--", "python", "-c", SLOW)
    assert [each["source"] for each in second["instances"]] == ["archive"]
    names = {each["name"] for each in second["instances"]}
    assert {item["id"] for item in project.gce.alive()} == names
    for name in names:
        document = unpack(project.metadata[name])
        secrets = (b"X-Goog-Signature", b"PRIVATE KEY", b"ya29.")
        assert [secret in document for secret in secrets] == [auth == "urls", False, False]

    # From another machine, which has nothing but credentials and the bucket's name.
    elsewhere = {**project.variables, "ENVBOOT_STATE_DIR": str(project.folder / "elsewhere")}
    other = replace(project, variables=elsewhere)
    where = [second["launch"], "--store", store]
    waited = json.loads(other.run("wait", *where, "--json").stdout)
    assert {each["name"] for each in waited["instances"]} == names
    assert {(each["state"], each["platform_state"]) for each in waited["instances"]} == {
        ("done", "RUNNING")
    }
    assert other.run("logs", *where).stdout == f"{RAN}and ended\n"
    assert f"ended {min(names)}" in other.run("terminate", *where).stderr
    assert project.gce.alive() == []
    assert project.run("ls").stdout == ""


def unpack(attributes: dict[str, str]) -> bytes:
    """Return the document as the machine reads it."""
    if "startup-script" in attributes:
        return attributes["startup-script"].encode()
    text = attributes["user-data"].encode()
    return gzip.decompress(base64.b64decode(text)) if "user-data-encoding" in attributes else text


def test_a_start_up_script_may_run_at_every_boot(root: Path, tmp_path: Path) -> None:
    with open_bench(tmp_path / "bench") as bench:
        manifest = bench.manifest(conda=("python",))
        grants = bench.publish(manifest, "script")
        document = render(
            manifest,
            launch_path=LaunchPath.GCE_STARTUP_SCRIPT,
            grants=grants,
            job=Job(
                command=["sh", "-c", "echo ran >>$HOME/ran"],
                watch=True,
                hook='echo "$ENVBOOT_NOTICE" >>$HOME/hook',
            ),
        )
        spec = Spec(
            user_data=b"",
            datasource="gce-startup-script",
            leaves={
                "instance/attributes/startup-script": document.payload.decode(),
                "instance/id": "42",
                "instance/preempted": "TRUE",
                "instance/maintenance-event": "NONE",
            },
            ports=bench.ports(grants),
            files=bench.mirror,
            commands={
                "script": "journalctl -b -o cat -u google-startup-scripts",
                "units": "systemctl --failed --no-legend",
                "identity": "cat /var/lib/envboot/instance",
                "hook": "for i in $(seq 100); do [ -s /home/envboot/hook ] && break; sleep 0.1; "
                "done; cat /home/envboot/hook",
                "envs": "ls /opt/envboot/envs",
            },
        )
        sources = []
        for _ in range(2):
            with boot("script", spec, root=root, folder=tmp_path / "m") as machine:
                report = machine.wait(120)
            assert "startup-script exit status 0" in report.output("script")
            assert report.output("is-active") == "active"
            assert report.output("units") == ""
            assert report.output("identity") == "42"
            result = json.loads(report.text("/var/lib/envboot/result.json"))
            assert (result["outcome"], result["instance"]) == ("ready", "42")
            sources.append(result["source"])
        assert sources == ["install", "present"]
        assert len(report.output("envs").split()) == 1
        # One notice, told once, though it is still so after a reboot.
        assert report.output("hook") == "spot-interruption"
