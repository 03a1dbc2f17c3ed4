"""Shared by the tests of user-data: documents, and cloud-init's own judgement of them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.manifest import Base, Layer, Manifest, Project, Python, Tool, Wheel
from envboot.publish.grants import Grants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What cloud-init 22.4.2 imports on the way to its handlers and its schema.
NEEDED = ("configobj", "jinja2", "jsonpatch", "jsonschema", "pyyaml", "requests", "setuptools<81")


def sha(seed: object) -> str:
    return hashlib.sha256(str(seed).encode()).hexdigest()


# A public key as OpenSSH writes it: name and key, each with its length.
_KEY = b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes.fromhex(sha("signer"))
SIGNER = f"ssh-ed25519 {base64.b64encode(_KEY).decode()}"


def make_manifest(packages: int, *, layer: bool = False) -> Manifest:
    wheels = tuple(
        Wheel(name=f"package-{sha(i)[:6]}", version=f"1.{i}.0", sha256=sha(i))
        for i in range(packages)
    )
    tool = Tool(version="0.9.0", url="https://files.test/uv.whl", sha256=sha("uv"))
    base = Base(
        platform="linux-64",
        python=Python(version="3.11.7", source="conda"),
        virtual_packages={"__glibc": "2.28"},
        wheels=wheels,
        tools={"uv": tool},
    )
    projects = (Project(name="flow", version="0.1.0", commit="4f1c2d"),)
    if layer:
        return Manifest(base=base, layer=Layer(digest=f"sha256:{sha('l')}", projects=projects))
    return Manifest(base=base)


def make_grants(manifest: Manifest, *, url_size: int = 412, published: bool = False) -> Grants:
    """Grants as a launch has them, each signed URL of exactly that many bytes.

    As with real ones, a URL's key and signature are its own; account and, from temporary
    credentials, the long session token are the same in all. `published` says whether the bucket
    has an archive.
    """

    def sign(key: str) -> str:
        url = (
            f"https://team-envs.s3.eu-central-1.amazonaws.com/{key}"
            "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAEXAMPLE%2F20260101%2F"
            "eu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=86400"
            f"&X-Amz-SignedHeaders=host&X-Amz-Signature={sha(key)}"
        )
        token = "".join(sha(f"token {i}") for i in range(40))
        room = url_size - len(url)
        return url + ("&X-Amz-Security-Token=" + token)[:room] if room > 0 else url

    base = manifest.base_digest.partition(":")[2]
    key = "launches/a1b2c3d4/secrets/permit-0.json"
    pin = {"sha256": sha("index")} if published else {}
    permit = {} if published else {"permit": {"get": sign(key), "delete": sign(f"{key}?delete")}}
    document: dict[str, Any] = {
        "grants_version": 1,
        "launch": "a1b2c3d4",
        "expires": "2026-01-02T00:00:00Z",
        "archive": {"get": sign(f"base/{base}/env.tar.zst")},
        "index": {"get": sign(f"base/{base}/index.json"), **pin},
        **permit,
        "manifest": {"get": sign(f"environments/{sha('environment')}.json")},
        "report": {
            "url": "https://team-envs.s3.eu-central-1.amazonaws.com/",
            "prefix": "reports/a1b2c3d4/",
            "fields": {
                "x-amz-algorithm": "AWS4-HMAC-SHA256",
                "x-amz-credential": "AKIAEXAMPLE/20260101/eu-central-1/s3/aws4_request",
                "x-amz-date": "20260101T000000Z",
                "policy": base64.b64encode(
                    b'{"expiration": "2026-01-02T00:00:00Z", "conditions": [{"bucket": '
                    b'"team-envs"}, ["starts-with", "$key", "reports/a1b2c3d4/"], '
                    b'["content-length-range", 0, 1048576]]}'
                ).decode(),
                "x-amz-signature": sha("policy"),
            },
        },
        "tools": {sha("uv"): sign(f"tools/{sha('uv')}/uv.whl")},
        "agent": {"get": sign(f"tools/{sha('agent')}/agent.zip"), "sha256": sha("agent")},
        "wanted": {"get": sign("launches/a1b2c3d4/wanted-1.json"), "signer": SIGNER},
        "seat": {"get": sign("launches/a1b2c3d4/seats-0.json")},
    }
    return Grants.from_dict(document)


def make_role_grants(manifest: Manifest) -> Grants:
    """Grants as a launch has them whose guests ask with their role."""
    url = "https://team-envs.s3.eu-central-1.amazonaws.com/"
    base = f"{url}base/{manifest.base_digest.partition(':')[2]}"
    headers = {"If-None-Match": "*"}
    environment = f"{url}environments/{manifest.environment_digest.partition(':')[2]}"
    names = {"archive": "env.tar.zst", "index": "index.json"}
    both = {
        kind: {"get": f"{base}/{name}", "put": {"url": f"{base}/{name}", "headers": headers}}
        for kind, name in names.items()
    }
    document: dict[str, Any] = {
        "grants_version": 1,
        "launch": "env-0123456789ab",
        "auth": {"kind": "aws", "region": "eu-central-1", "url": url},
        "archive": {**both["archive"], "max_bytes": 5 << 30},
        "index": both["index"],
        "manifest": {"get": f"{environment}.json"},
        "report": {"url": f"{url}reports/env-0123456789ab/", "headers": headers},
        "tools": {sha("uv"): f"{url}tools/{sha('uv')}/uv"},
        "agent": {"get": f"{url}tools/{sha('agent')}/agent.zip", "sha256": sha("agent")},
        "wanted": {
            "get": f"{url}launches/env-0123456789ab/wanted-1.json",
            "signer": SIGNER,
        },
        "seat": {"get": f"{url}launches/env-0123456789ab/seats-0.json"},
    }
    return Grants.from_dict(document)


def find_python(version: str) -> str:
    """Return an interpreter of that minor version, or skip the test."""
    candidates = [shutil.which(f"python{version}")]
    candidates += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in filter(None, candidates):
        # A pyenv shim is there for versions that it then does not find.
        code = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
        if not subprocess.run([candidate, "-c", code], capture_output=True, check=False).returncode:
            return candidate
    pytest.skip(f"needs Python {version}")


@pytest.fixture(scope="session")
def cloudinit(pytestconfig: pytest.Config) -> str:
    """A folder for PYTHONPATH that holds Debian 12's cloud-init 22.4.2 and what it imports."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("needs apt-get and dpkg-deb, to read Debian's cloud-init")
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("cloud-init-22.4.2")
    done = folder / "done"
    if not done.exists():
        subprocess.run(["apt-get", "-q", "download", "cloud-init"], cwd=folder, check=True)
        deb = str(next(folder.glob("cloud-init_*.deb")))
        subprocess.run(["dpkg-deb", "-x", deb, str(folder / "deb")], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet"]
        target = [f"--python={sys.executable}", f"--target={folder / 'needed'}"]
        subprocess.run([*install, *target, *NEEDED], check=True)
        done.touch()
    library = folder / "deb/usr/lib/python3/dist-packages"
    return f"{library}{os.pathsep}{folder / 'needed'}"


@pytest.fixture
def judge(cloudinit: str, tmp_path: Path) -> Callable[[bytes], dict[str, Any]]:
    """Let cloud-init's own processor, schema and handlers read a document."""

    def run(document: bytes) -> dict[str, Any]:
        script = Path(__file__).with_name("judge.py")
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "cloud")],
            input=document,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": cloudinit},
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    return run


@contextlib.contextmanager
def serve_bytes(data: bytes) -> Iterator[str]:
    """Serve the same bytes at every URL of a loopback server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/agent.zip"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
