from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from envboot.store import open_store
from tests.agent.proxy import Proxy, run_proxy
from tests.servers import gcs_bucket, gcs_server, gcs_session, s3_bucket, s3_server
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.store.protocol import Store
    from tests.servers import S3Server

__all__ = ["gcs_bucket", "gcs_server", "gcs_session", "s3_bucket", "s3_server"]

KINDS = [
    pytest.param("local", marks=pytest.mark.sockets),
    pytest.param("s3", marks=[pytest.mark.sockets, pytest.mark.subprocess]),
    pytest.param("gcs", marks=[pytest.mark.sockets, pytest.mark.subprocess]),
]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty bucket of each kind."""
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3_bucket')}/team/one"
    if request.param == "gcs":
        return f"gs://{request.getfixturevalue('gcs_bucket')}/team/one"
    return f"file://{tmp_path}/bucket"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url, make_session()) as opened:
        yield opened


@pytest.fixture
def s3(s3_bucket: str) -> Iterator[Store]:
    with open_store(f"s3://{s3_bucket}/team/one", make_session()) as opened:
        yield opened


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A bad network in front of the S3 server; boto3 goes through it."""
    port = int(s3_server.endpoint.rpartition(":")[2])
    with run_proxy(port, keeps_host=True) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{running.server_address[1]}")
        yield running


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """A service that has regions and every setting of a bucket, and checks no signature."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/"):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
