"""An AWS account with a user in it: EC2 with real machines, a bucket that verifies, a role."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3

from tests.agent.proxy import running
from tests.agent.role.gate import Gate
from tests.boot.cloud import Cloud, boot_in_nspawn, open_cloud
from tests.boot.environment import make_environment
from tests.boot.vpc import inside_vpc
from tests.cache import make_cache
from tests.channel import ensure_channel
from tests.ec2 import REGION, run_ec2_server
from tests.index import serve_folder
from tests.servers import run_s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.boot.cloud import Booter

ENVBOOT = [sys.executable, "-c", "from envboot.cli import main; main()"]
BUCKET, ROLE = "team-envs", "worker"
STORE = f"s3://{BUCKET}/envboot"
BY_ROLE = ("--auth", "role", "--instance-profile", ROLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A user's folder, and all that it reaches.

    `store` is where launches publish; `timeout` are seconds that a command may take.
    """

    folder: Path
    prefix: Path
    variables: dict[str, str]
    gate: Gate
    cloud: Cloud
    loopback: str
    store: str = STORE
    timeout: float = 600

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `envboot …`; it must end with `code`."""
        try:
            done = subprocess.run(
                [*ENVBOOT, *words],
                env=self.variables,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = b"".join([error.stdout or b"", error.stderr or b""]).decode(errors="replace")
            raise AssertionError(f"{error}\n{said}") from None
        assert self.cloud.failures == []
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def use_session(self) -> None:
        """Let the user be signed in for an hour, and the bucket know roles."""
        keys = self.gate.issue(3600)
        self.variables["AWS_ACCESS_KEY_ID"] = keys["AccessKeyId"]
        self.variables["AWS_SECRET_ACCESS_KEY"] = keys["SecretAccessKey"]
        self.variables["AWS_SESSION_TOKEN"] = keys["Token"]
        self.variables["AWS_ENDPOINT_URL_S3"] = f"http://{self.loopback}:{self.gate.server_port}"

    def launch(self, *words: str, instances: str = "aws") -> dict[str, Any]:
        """Launch, on EC2 unless told otherwise, and return the outcome."""
        options = ["--python", str(self.prefix), "--store", self.store, "--json"]
        done = self.run("launch", instances, *options, *words)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def publish(self) -> str:
        """Have a local instance install and publish the base; returns the base's digest."""
        launched = self.launch("--", "true", instances="local")
        (instance,) = launched["instances"]
        assert (instance["outcome"], instance["source"]) == ("ready", "install")
        assert instance["errors"] == []
        digest: str = launched["base"]
        return digest


@contextmanager
def open_account(
    folder: Path,
    make_booter: Callable[[tuple[int, ...], Callable[[], dict[str, str]]], Booter],
    *,
    loopback: str = "127.0.0.1",
    make: Callable[..., Path] = make_environment,
) -> Iterator[Account]:
    """Make the account with everything in it, until the end.

    `make_booter` is given the ports that machines must reach, and what makes a role's credentials.
    `loopback` is an address of this network by which guests and the user reach it alike; `make`
    is `make_environment` or one that is called as it is.
    """
    with ExitStack() as stack:
        # On every address, so that the user may call it by the name that guests have for it.
        host = "127.0.0.1" if loopback == "127.0.0.1" else "0.0.0.0"
        channel = stack.enter_context(serve_folder(ensure_channel().folder, host=host))
        for name in ("weed", "moto"):
            (folder / name).mkdir(parents=True)
        s3 = stack.enter_context(run_s3_server(folder / "weed"))
        s3.client().create_bucket(Bucket=BUCKET)
        gate = stack.enter_context(running(Gate(s3.endpoint, s3.admin, host=host)))
        ec2 = stack.enter_context(run_ec2_server(folder / "moto")).fresh()
        make_role(ec2.upstream)
        variables = {
            **os.environ,
            **s3.environment(),
            "AWS_ENDPOINT_URL": ec2.endpoint,
            "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
            "ENVBOOT_STATE_DIR": str(folder / "state"),
            "MAMBA_ROOT_PREFIX": str(folder / "mamba"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

        def run(words: list[str]) -> None:
            subprocess.run(words, env=variables, cwd=folder, check=True)

        prefix = make(folder, channel, run, loopback=loopback)
        ports = (urlsplit(channel).port or 80, urlsplit(s3.endpoint).port or 80, gate.server_port)
        booter = make_booter(ports, lambda: gate.issue(3600))
        cloud = stack.enter_context(open_cloud(ec2, booter))
        yield Account(
            folder=folder,
            prefix=prefix,
            variables=variables,
            gate=gate,
            cloud=cloud,
            loopback=loopback,
        )


@contextmanager
def open_vpc_account(
    root: Path, folder: Path, *, make: Callable[..., Path] = make_environment
) -> Iterator[Account]:
    """Make an account in a VPC: its instances, all that they reach, and this thread as the user.

    Machines have the addresses that the API tells and run until it ends them.
    """
    # Inside there is no network to download anything from.
    ensure_channel()
    with (
        inside_vpc() as vpc,
        open_account(
            folder,
            lambda ports, role: boot_in_nspawn(root, folder / "machines", ports, role, vpc=vpc),
            make=make,
        ) as account,
    ):
        yield account


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
