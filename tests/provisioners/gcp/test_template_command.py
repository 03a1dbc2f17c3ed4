"""`envboot gcp instance-template`, with a bucket and a Compute Engine on loopback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.pages import REFERENCE, read_rows, read_section
from tests.launch.test_conda import open_conda_workspace
from tests.launch.workspace import ENVBOOT
from tests.servers import run_gcs_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.gce import Gce
    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

MACHINE = "machine@team.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A conda environment, with a project."""
    with open_conda_workspace(tmp_path_factory.mktemp("conda")) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables with which the bucket `team` is found."""
    folder = tmp_path_factory.mktemp("bucket")
    with run_gcs_server(folder) as front:
        front.make_bucket("team")
        key = folder / "key.json"
        key.write_text(json.dumps(front.key_file()))
        yield {
            "STORAGE_EMULATOR_HOST": front.endpoint,
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        }


def run(
    workspace: Workspace, gce: Gce, bucket: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    command = (ENVBOOT, "gcp", "instance-template", "forecast", "--python", str(workspace.python))
    return workspace.run(*command, *words, **{**gce.environment(), **bucket})


def test_it_writes_the_environment_and_nothing_that_ends(
    workspace: Workspace, gce: Gce, bucket: dict[str, str]
) -> None:
    words = ("--store", "gs://team/envs", "--service-account", MACHINE)
    command = ("--json", "--", "python", "-c", "import mine")
    done = run(workspace, gce, bucket, *words, *command)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["made"] is True
    title = "`envboot gcp instance-template --json`"
    assert set(read_rows(read_section(REFERENCE, title))) == set(told)
    held = json.dumps(gce.templates[told["name"]])
    assert told["environment"] in held
    assert MACHINE in held
    assert "X-Goog-Signature" not in held
    again = json.loads(run(workspace, gce, bucket, *words, *command).stdout)
    assert {**again, "made": True} == told
    assert again["made"] is False
    other = json.loads(run(workspace, gce, bucket, *words, "--env", "A=1", *command).stdout)
    assert other["made"] is True
    assert other["path"] != told["path"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--auth", "urls"), "Cannot write signed URLs into an instance template"),
        (("--store", "file:///tmp/x"), "Expected a bucket that machines can reach, found `file"),
        ((), "Expected a bucket that machines can reach, found none"),
    ],
)
def test_it_refuses_what_would_not_last(
    workspace: Workspace, gce: Gce, bucket: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    done = run(workspace, gce, bucket, *words)
    assert done.returncode == 118
    assert message in done.stderr


def test_a_bucket_that_is_not_there_is_told_before_anything_is_scanned(
    workspace: Workspace, gce: Gce, bucket: dict[str, str]
) -> None:
    words = ("--service-account", MACHINE, "--store", "gs://none/x", "--python", "missing")
    done = run(workspace, gce, bucket, *words)
    assert done.returncode == 113, done.stderr
    assert "caused by: Bucket `none` was not found" in done.stderr
