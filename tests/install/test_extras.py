"""What says which extra it needs, and what works without: every command, and Python."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from envboot.extras import EXTRAS
from tests.docs.commands import find_command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Installed

pytestmark = [pytest.mark.subprocess, pytest.mark.network]

PACKAGES = {
    "aws": "`boto3` is",
    "gcp": "`google.cloud.compute_v1` and `google.cloud.storage` are",
    "dask": "`cryptography` and `distributed` are",
}
REFUSED = {
    "aws": [
        "store init s3://bucket --dry-run",
        "store ls s3://bucket",
        "store rm s3://bucket key --yes",
        "doctor --store s3://bucket",
        "doctor aws",
        "env ls --store s3://bucket",
        "ls --store s3://bucket",
        "status launch --store s3://bucket",
        "terminate launch --store s3://bucket",
        "launch aws --store s3://bucket -- true",
        "launch local --store s3://bucket -- true",
        "render-userdata --for ec2 --store s3://bucket",
        "aws launch-template name --instance-profile role --store s3://bucket",
    ],
    "gcp": [
        "store init gs://bucket --dry-run",
        "store ls gs://bucket",
        "doctor --store gs://bucket",
        "doctor gcp",
        "launch gcp --store gs://bucket -- true",
        "render-userdata --for gce --store gs://bucket",
        "gcp instance-template name --service-account default --store gs://bucket",
    ],
}
CASES = [(extra, line) for extra, lines in REFUSED.items() for line in lines]


def assert_told(text: str, extra: str) -> None:
    """The error names the extra and what it lacks, once, and says what to paste."""
    assert f"needs the extra `{extra}` of envboot" in text
    assert f"caused by: {PACKAGES[extra]} not installed" in text
    assert f"hint: Install it with `pip install 'envboot[{extra}]'`" in text
    assert "Traceback" not in text
    assert "unexpectedly" not in text


@pytest.mark.parametrize(("extra", "line"), CASES, ids=[line for _, line in CASES])
def test_a_command_without_its_extra_says_which(
    installed: Installed, extra: str, line: str
) -> None:
    done = installed.run("envboot", *line.split())
    assert done.returncode == 118, done.stdout + done.stderr
    assert_told(done.stderr, extra)


def test_every_provisioner_and_bucket_says_it_by_itself(installed: Installed) -> None:
    code = """
import sys
from envboot import UsageError
from envboot.session import open_session
from envboot_provisioners import load_provisioner
provisioner = load_provisioner(sys.argv[1], open_session())
calls = [
    lambda: provisioner.check({}),
    lambda: provisioner.find_clients(),
    lambda: provisioner.instances("launch"),
    lambda: provisioner.doctor({}),
]
for call in calls:
    try:
        call()
    except UsageError as error:
        print(error)
assert provisioner.instances() == []
"""
    for extra in ("aws", "gcp"):
        done = installed.run("python", "-c", code, extra)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"Provisioner `{extra}` needs the extra `{extra}`") == 4


def test_machines_that_run_are_left_out_of_a_list_with_a_warning(installed: Installed) -> None:
    record = installed.folder / "state/aws/20261123-024025-b65a.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"region": "eu-central-1"}))
    try:
        done = installed.run("envboot", "ls")
    finally:
        record.unlink()
    assert done.returncode == 0, done.stderr
    assert "`aws` is left out: Provisioner `aws` needs the extra `aws`" in done.stderr
    assert "pip install 'envboot[aws]'" in done.stderr


def test_help_of_every_command_works_without_any_extra(installed: Installed) -> None:
    code = """
import click
from envboot.cli import cli
def show(command, context):
    print(context.command_path, len(command.get_help(context)))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            show(found, click.Context(found, info_name=name, parent=context))
show(cli, click.Context(cli, info_name="envboot"))
"""
    paths = [line.rpartition(" ")[0] for line in installed.python(code).splitlines()]
    assert {"envboot launch aws", "envboot gcp instance-template"} <= set(paths)
    assert all(find_command(path.split()[1:])[2] == [] for path in paths)


def test_completion_works_without_any_extra(installed: Installed) -> None:
    assert "complete" in installed.run("envboot", "completion", "bash").stdout
    words = {"COMP_WORDS": "envboot launch aws --instance-", "COMP_CWORD": "3"}
    done = installed.run("envboot", _ENVBOOT_COMPLETE="bash_complete", **words)
    assert "--instance-type" in done.stdout
    assert done.stderr == ""


def test_the_cluster_without_dask_is_an_import_error_that_says_it(installed: Installed) -> None:
    done = installed.run("python", "-c", "from envboot import Cluster")
    assert done.returncode == 1
    assert_told(done.stderr.partition("\nenvboot.errors.")[2], "dask")
    code = "try: from envboot import Cluster\nexcept ImportError as error: print(error.hint)"
    assert "envboot[dask]" in installed.python(code)
    # It reads every name that the module shows.
    assert "scan_here" in installed.python("import envboot; help(envboot)", PAGER="cat")


def test_a_package_that_lacks_one_of_its_own_is_no_missing_extra(
    installed: Installed, tmp_path: Path
) -> None:
    (tmp_path / "boto3.py").write_text("import what_it_needs_itself")
    (tmp_path / "botocore").mkdir()
    for name in ("config", "exceptions"):
        (tmp_path / f"botocore/{name}.py").write_text(
            "Config = BotoCoreError = ClientError = None\n"
        )
    done = installed.run("envboot", "store", "ls", "s3://bucket", PYTHONPATH=str(tmp_path))
    assert done.returncode == 125
    assert "what_it_needs_itself" in done.stderr
    assert "extra" not in done.stderr


def test_of_an_extra_that_is_there_in_part_the_rest_is_named(
    installed: Installed, tmp_path: Path
) -> None:
    storage = tmp_path / "google/cloud/storage"
    storage.mkdir(parents=True)
    (storage / "__init__.py").touch()
    done = installed.run("envboot", "store", "ls", "gs://bucket", PYTHONPATH=str(tmp_path))
    assert done.returncode == 118
    assert "caused by: `google.cloud.compute_v1` is not installed" in done.stderr


def test_the_wheel_brings_what_each_extra_looks_for(installed: Installed) -> None:
    (info,) = installed.site.glob("envboot-*.dist-info")
    text = (info / "METADATA").read_text("utf-8")
    extras = set(re.findall(r"^Provides-Extra: (.+)$", text, re.MULTILINE))
    assert extras == {*EXTRAS, "all"}
    needed = re.findall(r"^Requires-Dist: ([\w-]+).*extra == ['\"](\w+)", text, re.MULTILINE)
    for extra, modules in EXTRAS.items():
        # `google.cloud.compute_v1` is of `google-cloud-compute`.
        names = {re.sub(r"_v\d+$", "", module).replace(".", "-") for module in modules}
        assert {name for name, of in needed if of == extra} == names
    assert re.search(r"^Requires-Dist: envboot\[aws,dask,gcp\].*extra == .all", text, re.MULTILINE)
