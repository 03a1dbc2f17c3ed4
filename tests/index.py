"""Wheels for tests: downloaded once from PyPI, or made by hand, and served as a simple index."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFile:
    """One wheel on disk; `name` is normalised after PEP 503."""

    name: str
    version: str
    path: Path
    sha256: str


def download_wheels(pins: tuple[str, ...], folder: Path, version: str | None = None) -> None:
    """Download exactly these wheels (`name==version`), no dependencies.

    They are for this interpreter, or for Python `version` (`3.12`).
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--python-version", version] if version else []
    subprocess.run(
        [*command, "--only-binary=:all:", f"--dest={folder}", *pins], check=True, text=True
    )


def write_uv(folder: Path) -> Path:
    """Write a program that runs uv: as pinned as uv itself, and a thousand times smaller.

    What is 38 MB would be copied into each bucket and to each machine, and hashed on the way.
    """
    program = folder / "uv"
    program.write_text(f'#!/bin/sh\nexec "{find_uv_bin()}" "$@"\n')
    return program


def read_wheels(folder: Path) -> dict[str, WheelFile]:
    """Return the wheels of a folder by name."""
    wheels = {}
    for path in sorted(folder.glob("*.whl")):
        name, version = path.name.split("-")[:2]
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        wheel = WheelFile(name=canonicalize_name(name), version=version, path=path, sha256=sha256)
        wheels[wheel.name] = wheel
    return wheels


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    text: str = "",
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> WheelFile:
    """Write a wheel of one module, or of `files`; the same arguments give the same bytes."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        **({f"{module}.py": text or f"NAME = {name!r}\n"} if files is None else files),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {text}\n" for text in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\n"
        f"Root-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = [f"{path},{_record_hash(data.encode())},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, data in files.items():
            wheel.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return WheelFile(name=canonicalize_name(name), version=version, path=path, sha256=sha256)


def make_sdist(
    folder: Path, name: str, version: str = "1.0", files: Mapping[str, str] | None = None
) -> WheelFile:
    """Write an sdist of one module, or of `files`, that says all about itself.

    It is built without any package of an index, by a backend of its own.
    """
    module = name.replace("-", "_")
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
    backend = f"""\
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{module}-{version}-py3-none-any.whl"
    info = "{module}-{version}.dist-info/"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.write("{module}.py")
        wheel.writestr(info + "METADATA", open("PKG-INFO").read())
        tags = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\n" + tags)
        wheel.writestr(info + "RECORD", "")
    return name
"""
    project = f"""\
[project]
name = "{name}"
version = "{version}"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
    members = {
        "PKG-INFO": metadata,
        "pyproject.toml": project,
        "backend.py": backend,
        **({f"{module}.py": f"NAME = {name!r}\n"} if files is None else files),
    }
    path = folder / f"{module}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as sdist:
        for member, text in members.items():
            info = tarfile.TarInfo(f"{module}-{version}/{member}")
            info.size = len(text.encode())
            sdist.addfile(info, io.BytesIO(text.encode()))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return WheelFile(name=canonicalize_name(name), version=version, path=path, sha256=sha256)


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + digest.decode().rstrip("=")


def write_simple(folder: Path) -> None:
    """Write PEP 503 pages with hashes, `folder/simple/<name>/index.html`, beside the wheels."""
    links: dict[str, str] = {}
    for path in sorted(folder.glob("*.whl")):
        name = canonicalize_name(path.name.split("-")[0])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        link = f'<a href="../../{path.name}#sha256={sha256}">{path.name}</a>'
        links[name] = links.get(name, "") + link
    for project, found in links.items():
        page = folder / "simple" / project
        page.mkdir(parents=True, exist_ok=True)
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{found}</body></html>\n")
    names = "".join(f'<a href="{name}/">{name}</a>' for name in links)
    (folder / "simple" / "index.html").write_text(f"<html><body>{names}</body></html>\n")


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def end_headers(self) -> None:
        """Have nobody remember a page: wheels may join it."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


class _Ranged(_Quiet):
    """Knows ranges (RFC 9110, 14.2), and counts the bytes of wheels that it has sent."""

    def __init__(self, *args: Any, sent: list[int], **keywords: Any) -> None:
        self.sent = sent
        super().__init__(*args, **keywords)

    def do_GET(self) -> None:
        """Send a range where one is asked for."""
        path = Path(self.translate_path(self.path))
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if path.suffix != ".whl" or not found:
            super().do_GET()
            return
        size = path.stat().st_size
        start, end = int(found[1]), min(int(found[2]) + 1, size)
        data = path.read_bytes()[start:end]
        self.sent.append(len(data))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Guarded(_Quiet):
    """Wants `user:password`, or a path that begins with `/t/<token>`."""

    def __init__(self, *args: Any, secrets: tuple[str, ...], **keywords: Any) -> None:
        self.secrets = secrets
        super().__init__(*args, **keywords)

    def send_head(self) -> Any:
        """Answer 401 to whoever brings no secret."""
        known = [base64.b64encode(secret.encode()).decode() for secret in self.secrets]
        tokens = [
            f"/t/{secret}/" for secret in self.secrets if self.path.startswith(f"/t/{secret}/")
        ]
        if tokens:
            self.path = "/" + self.path.removeprefix(tokens[0])
        elif self.headers.get("Authorization", "").removeprefix("Basic ") not in known:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().send_head()


@contextmanager
def serve_folder(
    folder: Path, *secrets: str, host: str = "127.0.0.1", sent: list[int] | None = None
) -> Iterator[str]:
    """Serve a folder's files on a free loopback port; yields the URL without a final slash.

    With `secrets`, a request must bring one: `user:password`, or `/t/<token>` in its path. With
    `sent` ranges of wheels are served, and how long each was is added to it. In a network of its
    own, `host` may be `0.0.0.0` to be reached by other names too.
    """
    handler: Any = partial(_Guarded, secrets=secrets) if secrets else _Quiet
    handler = handler if sent is None else partial(_Ranged, sent=sent)
    server = ThreadingHTTPServer((host, 0), partial(handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
