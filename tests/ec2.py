"""A real moto on loopback behind a proxy that does what EC2 does and moto does not.

Import the fixtures where they are needed: `from tests.ec2 import ec2, ec2_server`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sysconfig
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlencode

import boto3
import pytest

from tests.servers import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient

REGION = "us-east-1"
START_SECONDS = 90
UBUNTU = "/aws/service/canonical/ubuntu/server/{}/stable/current/{}/hvm/ebs-{}/ami-id"
AMAZON = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"
DEBIAN = "/aws/service/debian/release/12/latest/{}"
PARAMETERS = {
    UBUNTU.format("24.04", "amd64", "gp3"): "ami-0000000000002404a",
    UBUNTU.format("24.04", "arm64", "gp3"): "ami-0000000000002404b",
    UBUNTU.format("22.04", "amd64", "gp2"): "ami-0000000000002204a",
    UBUNTU.format("22.04", "arm64", "gp2"): "ami-0000000000002204b",
    DEBIAN.format("amd64"): "ami-00000000000000012a",
    DEBIAN.format("arm64"): "ami-00000000000000012b",
    AMAZON.format("x86_64"): "ami-0000000000002023a",
    AMAZON.format("arm64"): "ami-0000000000002023b",
}
"""What EC2 publishes, as the pages say that `templates/aws-images.toml` names."""


@dataclass(kw_only=True, slots=True)
class Fault:
    """What befalls the next requests of an action.

    `what` is an error's code, or `hang up` (nothing is done), `lose the answer` (it was done and
    nobody hears of it) or `wait` (it is done a few seconds late).
    """

    action: str
    what: str
    times: int = 1
    status: int = 400
    message: str = "Bad day"
    where: str = ""


@dataclass(kw_only=True, slots=True)
class Ec2:
    """What tests use: clients past the proxy, and what the proxy is to do.

    `changed` is set by whatever may have changed an instance; who waits for it clears it.
    `capacity` is how many instances a subnet has room for, as long as it is named there;
    `placement_groups` are strategies by name and `quotas` vCPUs by code: moto knows neither.
    """

    endpoint: str
    upstream: str
    parameters: dict[str, str] = field(default_factory=lambda: dict(PARAMETERS))
    capacity: dict[str, int] = field(default_factory=dict)
    placement_groups: dict[str, str] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tokens: dict[str, tuple[str, int, bytes]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    changed: threading.Event = field(default_factory=threading.Event)

    def strike(self, action: str, what: str, **rest: Any) -> None:
        """Add a fault."""
        self.faults.append(Fault(action=action, what=what, **rest))

    def find_fault(self, action: str, text: str) -> Fault | None:
        """Return what befalls a request."""
        for fault in self.faults:
            if fault.times and fault.action in (action, "*") and fault.where in text:
                fault.times -= 1
                return fault
        return None

    def actions(self, name: str) -> list[dict[str, str]]:
        """Return the parameters of every request of an action so far."""
        return [found for action, found in self.requests if action == name]

    def client(self) -> EC2Client:
        """Return EC2, past all faults."""
        return boto3.client("ec2", region_name=REGION, endpoint_url=self.upstream)

    def iam(self) -> IAMClient:
        """Return IAM, past all faults."""
        return boto3.client("iam", region_name=REGION, endpoint_url=self.upstream)

    def alive(self, launch: str) -> list[dict[str, Any]]:
        """Return the instances of a launch that cost money."""
        pages = self.client().get_paginator("describe_instances")
        found = pages.paginate(
            Filters=[
                {"Name": "tag:envboot:launch", "Values": [launch]},
                {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]},
            ]
        )
        return [
            cast("dict[str, Any]", item)
            for page in found
            for reservation in page["Reservations"]
            for item in reservation["Instances"]
        ]

    def subnets(self) -> list[str]:
        """Return the default VPC's subnets by their zones."""
        found = self.client().describe_subnets(
            Filters=[{"Name": "default-for-az", "Values": ["true"]}]
        )["Subnets"]
        return [item["SubnetId"] for item in sorted(found, key=lambda x: x["AvailabilityZone"])]

    def make_profile(self, name: str, *, role: bool = True) -> str:
        """Make an instance profile and return its ARN."""
        iam = self.iam()
        made = iam.create_instance_profile(InstanceProfileName=name)
        if role:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return made["InstanceProfile"]["Arn"]

    def environment(self) -> dict[str, str]:
        """Return the variables with which boto3 finds the proxy and nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class _Front(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.ec2 = self.fresh()

    def fresh(self) -> Ec2:
        """Forget everything."""
        self.ec2 = Ec2(
            endpoint=f"http://127.0.0.1:{self.server_address[1]}",
            upstream=f"http://127.0.0.1:{self.upstream}",
        )
        return self.ec2


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Front

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target", "")
        text = body.decode()
        found = {} if target else dict(parse_qsl(text, keep_blank_values=True))
        action = target.rpartition(".")[2] or found.get("Action", "")
        ec2 = self.server.ec2
        with ec2.lock:
            ec2.requests.append((action, found))
            fault = ec2.find_fault(action, text)
        if fault and fault.what == "hang up":
            self.close_connection = True
            return
        if fault and fault.what == "wait":
            time.sleep(2)
        elif fault and fault.what != "lose the answer":
            self._refuse(fault.status, fault.what, fault.message)
            return
        if action == "GetParameter" and self._tell_parameter(json.loads(text)["Name"]):
            return
        if action == "GetServiceQuota":
            value = ec2.quotas.get(json.loads(text)["QuotaCode"])
            if value is None:
                self._refuse(400, "NoSuchResourceException", "No such quota")
            else:
                self._answer(200, json.dumps({"Quota": {"Value": value}}).encode())
            return
        if action == "DescribePlacementGroups":
            self._tell_placement_group(found["GroupName.1"])
            return
        if action == "RunInstances" and "DryRun" not in found:
            with ec2.lock:
                status, answer = self._run(found, text)
        else:
            status, answer = self._pass(body)
        if not action.startswith(("Describe", "Get", "List")):
            ec2.changed.set()
        if fault and fault.what == "lose the answer":
            self.close_connection = True
            return
        self._answer(status, answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _run(self, found: dict[str, str], text: str) -> tuple[int, bytes]:
        """Start what there is room for, and the same only once, as EC2 does."""
        ec2 = self.server.ec2
        token = found.get("ClientToken", "")
        known = ec2.tokens.get(token)
        if known:
            if known[0] != text:
                return 400, _error("IdempotentParameterMismatch", "Not the same request")
            return known[1], known[2]
        place = found.get("SubnetId") or found.get("NetworkInterface.1.SubnetId", "")
        least, most = int(found["MinCount"]), int(found["MaxCount"])
        room = ec2.capacity.get(place, most)
        if room < least:
            message = "We currently do not have sufficient capacity in the zone you requested"
            return 500, _error("InsufficientInstanceCapacity", message)
        number = min(room, most)
        # moto starts as few as it may.
        status, answer = self._pass(urlencode({**found, "MinCount": number}).encode())
        if status == 200:
            if place in ec2.capacity:
                ec2.capacity[place] -= number
            ec2.tokens[token] = (text, status, answer)
        return status, answer

    def _tell_parameter(self, name: str) -> bool:
        value = self.server.ec2.parameters.get(name)
        if value:
            self._answer(200, json.dumps({"Parameter": {"Name": name, "Value": value}}).encode())
        return bool(value)

    def _tell_placement_group(self, name: str) -> None:
        strategy = self.server.ec2.placement_groups.get(name)
        if strategy is None:
            self._answer(400, _error("InvalidPlacementGroup.Unknown", f"{name} is unknown"))
            return
        item = f"<item><groupName>{name}</groupName><strategy>{strategy}</strategy></item>"
        body = f"<placementGroupSet>{item}</placementGroupSet>"
        self._answer(
            200,
            f"<DescribePlacementGroupsResponse>{body}</DescribePlacementGroupsResponse>".encode(),
        )

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.headers.get("X-Amz-Target"):
            document = {"__type": code, "message": message}
            self._answer(status, json.dumps(document).encode())
        else:
            self._answer(status, _error(code, message))

    def _pass(self, body: bytes) -> tuple[int, bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        with contextlib.closing(upstream):
            headers = {
                key: value
                for key, value in self.headers.items()
                if key not in ("Host", "Content-Length")
            }
            upstream.request("POST", self.path, body, headers)
            answer = upstream.getresponse()
            return answer.status, answer.read()

    def _answer(self, status: int, body: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def _error(code: str, message: str) -> bytes:
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        "</Errors><RequestID>0</RequestID></Response>"
    ).encode()


def write_images(file: Path) -> None:
    """Write the images that moto is to have: one for each parameter, and one of Windows."""
    images = [
        {
            "ami_id": ami,
            "name": parameter.strip("/").replace("/", "-"),
            "architecture": "arm64" if ami.endswith("b") else "x86_64",
            "root_device_name": "/dev/xvda" if "debian" in parameter else "/dev/sda1",
            "platform": "windows" if not parameter else None,
        }
        for parameter, ami in [*PARAMETERS.items(), ("", "ami-00000000000000ffff")]
    ]
    common = {
        "state": "available",
        "public": True,
        "owner_id": "099720109477",
        "image_location": "amazon/image",
        "sriov": "simple",
        "root_device_type": "ebs",
        "description": "An image",
        "image_type": "machine",
        "virtualization_type": "hvm",
        "hypervisor": "xen",
    }
    file.write_text(json.dumps([{**common, **image} for image in images]))


@contextlib.contextmanager
def run_ec2_server(folder: Path) -> Iterator[_Front]:
    """Run moto on loopback, and the proxy before it."""
    write_images(folder / "amis.json")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sysconfig.get_path("scripts")) / "moto_server")
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, "MOTO_AMIS_PATH": str(folder / "amis.json")},
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _await(process, f"http://127.0.0.1:{port}/moto-api/", folder / "moto.log")
        with _Front(port) as front:
            thread = threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield front
            finally:
                front.shutdown()
                thread.join()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"moto did not start:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="session")
def ec2_server(request: pytest.FixtureRequest) -> _Front:
    """One moto a run."""
    return share(request, run_ec2_server)


@pytest.fixture
def ec2(ec2_server: _Front, monkeypatch: pytest.MonkeyPatch) -> Ec2:
    """An EC2 without faults and instances, which boto3 finds."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_EC2"):
        monkeypatch.delenv(name, raising=False)
    found = ec2_server.fresh()
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    request = urllib.request.Request(f"{found.upstream}/moto-api/reset", method="POST")
    with urllib.request.urlopen(request, timeout=30):
        return found
