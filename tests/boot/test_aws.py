"""The whole way on EC2: `envboot launch aws`, the API, real machines, the bucket, and back.

The API is moto's; the machines behind it are real, with cloud-init's own EC2 datasource; the
bucket is an S3 server that verifies every signature.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest

from tests.agent.gate import Gate
from tests.agent.proxy import running
from tests.boot.cloud import Cloud, boot_in_nspawn, open_cloud
from tests.boot.environment import make_environment
from tests.channel import ensure_channel
from tests.ec2 import REGION, run_ec2_server
from tests.index import serve_folder
from tests.servers import run_s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.boot.machine import Report

pytestmark = [
    pytest.mark.boot,
    pytest.mark.subprocess,
    pytest.mark.sockets,
    # py-rattler, in the stand-in for micromamba, has been seen to crash in a booted machine.
    pytest.mark.flaky(reruns=1, only_rerun=[r"micromamba failed \(-11\)"]),
]

ENVBOOT = [sys.executable, "-c", "from bootstrap.cli import main; main()"]
CODE = "import os, six, sys; print('ran in', sys.prefix, 'as root:', os.getuid() == 0, flush=True)"
SLOW = f"{CODE}; import time; time.sleep(6); print('and ended')"
BUCKET, ROLE = "team-envs", "worker"
STORE = f"s3://{BUCKET}/envboot"
AUTHS = {"urls": [], "role": ["--auth", "role", "--instance-profile", ROLE]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A user's folder, and all that it reaches."""

    folder: Path
    prefix: Path
    variables: dict[str, str]
    gate: Gate
    cloud: Cloud
    reports: dict[str, Report]

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `envboot …`; it must end with `code`."""
        done = subprocess.run(
            [*ENVBOOT, *words],
            env=self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert self.cloud.failures == []
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def use_session(self) -> None:
        """Let the user be signed in for an hour, and the bucket know roles."""
        keys = self.gate.issue(3600)
        self.variables["AWS_ACCESS_KEY_ID"] = keys["AccessKeyId"]
        self.variables["AWS_SECRET_ACCESS_KEY"] = keys["SecretAccessKey"]
        self.variables["AWS_SESSION_TOKEN"] = keys["Token"]
        self.variables["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{self.gate.server_port}"

    def launch(self, *words: str) -> dict[str, Any]:
        """Launch on EC2 and return the outcome."""
        options = ["--python", str(self.prefix), "--store", STORE, "--image", "ubuntu", "--json"]
        done = self.run("launch", "aws", *options, *words)
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@pytest.fixture
def account(root: Path, tmp_path: Path) -> Iterator[Account]:
    """An account with a bucket and a role, and a project to launch from."""
    reports: dict[str, Report] = {}
    with ExitStack() as stack:
        channel = stack.enter_context(serve_folder(ensure_channel().folder))
        (tmp_path / "weed").mkdir()
        s3 = stack.enter_context(run_s3_server(tmp_path / "weed"))
        gate = stack.enter_context(running(Gate(s3.endpoint, s3.admin)))
        (tmp_path / "moto").mkdir()
        ec2 = stack.enter_context(run_ec2_server(tmp_path / "moto")).fresh()
        s3.client().create_bucket(Bucket=BUCKET)
        variables = {
            **os.environ,
            **s3.environment(),
            "AWS_ENDPOINT_URL": ec2.endpoint,
            "ENVBOOT_CACHE_DIR": str(tmp_path / "cache"),
            "ENVBOOT_STATE_DIR": str(tmp_path / "state"),
            "MAMBA_ROOT_PREFIX": str(tmp_path / "mamba"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        make_role(ec2.upstream)

        def run(words: list[str]) -> None:
            subprocess.run(words, env=variables, cwd=tmp_path, check=True)

        prefix = make_environment(tmp_path, channel, run)
        ports = (urlsplit(channel).port or 80, urlsplit(s3.endpoint).port or 80, gate.server_port)
        booter = boot_in_nspawn(
            root, tmp_path / "machines", ports, lambda: gate.issue(3600), reports
        )
        cloud = stack.enter_context(open_cloud(ec2.upstream, booter))
        yield Account(
            folder=tmp_path,
            prefix=prefix,
            variables=variables,
            gate=gate,
            cloud=cloud,
            reports=reports,
        )


def make_role(api: str) -> None:
    """Make the role that instances may have."""
    iam = boto3.client(
        "iam",
        endpoint_url=api,
        region_name=REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}
    statement = [{**trust, "Action": "sts:AssumeRole"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)


@pytest.mark.parametrize("auth", AUTHS)
def test_a_launch_installs_and_publishes_the_next_fetches_and_is_seen_and_ended_from_elsewhere(
    account: Account, auth: str
) -> None:
    access = AUTHS[auth]
    if auth == "role":
        account.use_session()
    first = account.launch(*access, "--", "python", "-c", CODE)
    (instance,) = first["instances"]
    assert (instance["outcome"], instance["source"]) == ("ready", "install")
    assert instance["errors"] == []
    assert instance["output"] == "ran in /opt/envboot/env as root: False\n"
    assert set(account.cloud.states().values()) == {"terminated"}

    second = account.launch(*access, "--count", "2", "--keep", "--", "python", "-c", SLOW)
    assert [each["source"] for each in second["instances"]] == ["archive", "archive"]
    names = {each["name"] for each in second["instances"]}
    states = account.cloud.states()
    assert {states[name] for name in names} == {"running"}
    for name in names:
        secrets = (b"X-Amz-Signature", b"secret", account.variables["AWS_ACCESS_KEY_ID"].encode())
        document = unpack(account.cloud.user_data[name])
        assert [secret in document for secret in secrets] == [auth == "urls", False, auth == "urls"]

    # From another machine, which has nothing but credentials and the bucket's name.
    elsewhere = {**account.variables, "ENVBOOT_STATE_DIR": str(account.folder / "elsewhere")}
    other = replace(account, variables=elsewhere)
    where = [second["launch"], "--store", STORE]
    waited = json.loads(other.run("wait", *where, "--json").stdout)
    assert {each["name"] for each in waited["instances"]} == names
    assert {each["state"] for each in waited["instances"]} == {"running"}
    assert {each["stage"] for each in waited["instances"]} == {"done"}
    logs = other.run("logs", *where).stdout
    for name in names:
        assert f"[{name}] ran in /opt/envboot/env as root: False" in logs
        assert f"[{name}] and ended" in logs
    assert "from archive" in other.run("why", *where).stdout
    assert f"ended {min(names)}" in other.run("terminate", *where).stderr
    assert set(account.cloud.states().values()) == {"terminated"}
    assert account.run("ls").stdout == ""


def unpack(user_data: bytes) -> bytes:
    """Return the document as cloud-init reads it."""
    import gzip

    return gzip.decompress(user_data) if user_data[:2] == b"\x1f\x8b" else user_data
