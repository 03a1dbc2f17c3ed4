"""Readers of what anyone may have written. Each returns, or raises an error of its own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot.agent import pack, seat, sync, tar, unpack, wire, zstd
from envboot.documents import parse_json
from envboot.errors import DocumentError, LockError
from envboot.fleet.output import HEAD, parse_records
from envboot.fleet.reports import parse_report
from envboot.fleet.results import parse_index
from envboot.layer import archives
from envboot.lockfiles.formats import decode
from envboot.lockfiles.requirements_grammar import read_lines
from envboot.manifest import parse_manifest
from envboot.publish.archive_index import ArchiveIndex
from envboot.publish.grants import Grants
from tests.lockfiles.reading import make_request

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = "0" * 64
BASE = f"sha256:{HEX}"
URL = "https://bucket.example/key?X-Signature=1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One reader: what it is tried with, what it may raise, and good inputs to begin with."""

    run: Callable[[bytes], object]
    error: type[Exception]
    seeds: tuple[bytes, ...]


RESULTS: dict[str, Any] = {
    "number": 1,
    "time": 1.5,
    "rank": 0,
    "blobs": [HEX],
    "files": [["a/b", 5, 420, 10**18, HEX, [[0, 0, 2], [0, 1, 3]]], ["c", 0, 0, 0, HEX, []]],
    "left": {"limit": [1, ["d"]]},
}


class Sandbox:
    """A directory for what is unpacked, between others that must never change."""

    def __init__(self) -> None:
        # Memory: a disk would be what is measured.
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.top = Path(tempfile.mkdtemp(prefix="envboot-fuzz-", dir=memory))
        self.tree = self.top / "opt/env"
        self.outside = self.top / "opt/outside"
        self.outside.mkdir(parents=True)
        (self.outside / "file").write_bytes(b"kept")
        self.runs = 0

    def use(self) -> str:
        """Return a directory with some entries of an earlier archive, some links among them."""
        self.runs += 1
        if self.runs % 50 == 1:
            shutil.rmtree(self.tree, ignore_errors=True)
            (self.tree / "lib").mkdir(parents=True)
            (self.tree / "lib64").symlink_to("lib")
            # What no archive can make, and an installed package might.
            (self.tree / "out").symlink_to("../outside")
            (self.tree / "lib/file").symlink_to("../../outside/file")
        return str(self.tree)

    def check(self) -> None:
        """Raise AssertionError when something was written outside."""
        found = sorted(str(path.relative_to(self.top)) for path in self.top.glob("*"))
        found += sorted(path.name for path in self.tree.parent.iterdir())
        found += sorted(path.name for path in self.outside.iterdir())
        assert found == ["opt", "env", "outside", "file"], found
        assert (self.outside / "file").read_bytes() == b"kept"

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.top, ignore_errors=True)


def entry(path: str, kind: bytes = tar.FILE, data: bytes = b"", target: str = "") -> bytes:
    """Return one entry of a tar."""
    return pack.header(path, kind, 0o755, len(data), target) + pack.padded(data)


TARS = (
    entry("bin/python", tar.LINK, target="python3.11") + entry("lib/a/b.py", data=b"x = 1\n" * 99),
    entry("lib64", tar.LINK, target="lib") + entry("folder", tar.DIRECTORY) + bytes(1024),
    entry("lib/" + "long" * 40, data=b"x") + entry("l", tar.LINK, target="../" + "y" * 120),
    entry("out/file", data=b"x") + entry("lib/file", data=b"x") + entry("lib64/file"),
)
INDEX = {
    "index_version": 1,
    "base": BASE,
    "size": 30,
    "raw": 2048,
    "files": 2,
    "frames": [[0, 10, 1024, HEX, ""], [10, 20, 1024, HEX, "a", "lib/large", 16, 1024, 420]],
}
MANIFEST = {
    "manifest_version": 1,
    "base": {
        "platform": "linux-64",
        "python": {"version": "3.11.2", "source": "host", "executable": "/usr/bin/python3"},
        "prefix": "/opt/envboot/env",
        "virtual_packages": {"__glibc": "2.28"},
        "conda": [{"url": "https://conda.example/linux-64/a-1-0.conda", "sha256": HEX}],
        "wheels": [{"name": "a", "version": "1.0", "sha256": HEX, "index": "https://pypi.example"}],
        "tools": {"uv": {"version": "1", "url": "https://example.com/uv", "sha256": HEX}},
    },
    "layer": {"digest": BASE, "projects": [{"name": "mine", "version": "1.0"}]},
}
GRANTS = {
    "grants_version": 1,
    "launch": "launch",
    "expires": "2026-01-01T00:00:00Z",
    "archive": {"get": URL, "put": {"url": URL, "headers": {"If-None-Match": "*"}}},
    "index": {"get": URL, "put": {"url": URL, "headers": {}}},
    "agent": {"get": URL, "sha256": HEX},
    "tools": {HEX: URL},
    "report": {"url": URL, "fields": {"policy": "x"}, "prefix": "reports/launch/"},
}
PIECE = HEAD.pack(1, 5, 4) + b"text" + HEAD.pack(2, 6, 3) + b"err"
SEATS = {
    "seats": {"i-1": {"rank": 0, "words": ["a"], "address": "10.0.0.1", "secret": {"get": URL}}},
    "count": 2,
    "peers": ["10.0.0.1", None],
    "stdin": [{"get": URL, "sha256": HEX}],
}
WANTED = {
    "number": 1,
    "digest": BASE,
    "manifest": {"get": URL},
    "layer": {"get": URL},
    "next": {"get": "/launches/launch/wanted-2.json"},
    "restart": True,
}
REPORTS = {
    "result": {
        "outcome": "ready",
        "source": "archive",
        "environment": BASE,
        "stages": [{"stage": "probe", "ms": 1}],
        "errors": [{"stage": "fetch", "error": "missing"}],
    },
    "command": {"exit_code": 0, "ms": 1, "output": "text", "pieces": 1},
    "seated": {"rank": 0, "count": 2},
    "publish": {"ms": 1, "bytes": 2, "error": "no"},
    "synced": {"number": 1, "environment": BASE, "ms": 1},
    "notice": {"kind": "spot-interruption", "time": "2026-01-01T00:00:00Z"},
}


def dump(document: object) -> bytes:
    """Return a document as it is in a bucket."""
    return json.dumps(document).encode()


REQUIREMENTS = (
    b"-i https://user:hunter2@a.test/simple --pre\none==1.0 \\\n --hash=sha256:" + b"a" * 64,
    b"-e ./x\nhttps://a.test/one-1.0.zip#egg=one --hash=sha256:aa  # x\n${HOME}/wheel.whl\n",
    "\ufeffone==1\r\n-c gone.txt\r\n".encode("utf-16-le"),
)


def make_zip() -> bytes:
    """A zip with a directory, and a member that leads out of where it is unpacked."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("repo/setup.py", "x" * 99)
        archive.writestr("../../outside/file", "y")
    return stream.getvalue()


def make_targets(sandbox: Sandbox) -> dict[str, Target]:
    """Return every reader by name; those that write do so into the sandbox."""

    def read_tar(data: bytes) -> None:
        try:
            with closing(tar.Tree(sandbox.use(), "/usr/bin/python3")) as tree:
                tar.extract(memoryview(data), tree)
        finally:
            sandbox.check()

    def read_layer(data: bytes) -> None:
        content = hashlib.sha256()
        for view in zstd.decode_all(data):
            content.update(view)
        try:
            unpack.unpack_layer(data, {"digest": f"sha256:{content.hexdigest()}"}, sandbox.use())
        finally:
            sandbox.check()

    def read_packed_tar(data: bytes) -> None:
        read_layer(pack.compress(data, 1))

    def read_list(data: bytes) -> None:
        folder = Path(sandbox.use())
        # A list before may have removed everything.
        (folder / "lib/envboot").mkdir(parents=True, exist_ok=True)
        (folder / pack.LAYER_LIST).write_bytes(data)
        try:
            sync.remove_layer(str(folder), listed=True)
        finally:
            sandbox.check()

    def read_index(data: bytes) -> None:
        index = wire.parse(data)
        unpack.check_index(index, BASE)
        assert sum(row[1] for group in unpack.spans(index, 4) for row in group) == index["size"]

    def read_source(data: bytes) -> None:
        folder = Path(sandbox.use())
        shutil.rmtree(folder / "source", ignore_errors=True)
        (folder / "archive").write_bytes(data)
        try:
            archives.unpack(folder / "archive", folder / "source")
        finally:
            sandbox.check()

    def read_requirements(data: bytes) -> None:
        request = make_request()
        try:
            text = decode(data)
        except ValueError as error:
            raise LockError(str(error)) from error
        read_lines(request, text)

    def read_results(data: bytes) -> None:
        packed = gzip.compress(data, 1)
        for file in parse_index(packed, instance="one", folder="one/", number=1).files:
            assert Path("/a", file.path).resolve().is_relative_to("/a")
            assert sum(extent.length for extent in file.extents) == file.size

    def read_report(data: bytes) -> None:
        event, _, text = data.partition(b"\n")
        parse_report(event.decode(errors="replace"), parse_json(text, "report"))

    agent, client = wire.AgentError, DocumentError
    seeds: Any = {name: f"{name}\n".encode() + dump(REPORTS[name]) for name in REPORTS}
    compressed = tuple(pack.compress(each, 1) for each in TARS)
    lists = (
        b"lib/envboot/layer.txt\nlib/a/b.py\nlib/file\n",
        b"out/file\nlib64/file\n",
        b"../../outside/file\n",
    )
    return {
        "tar": Target(run=read_tar, error=agent, seeds=TARS),
        "layer": Target(run=read_layer, error=agent, seeds=compressed),
        "layer-tar": Target(run=read_packed_tar, error=agent, seeds=TARS),
        "layer-list": Target(run=read_list, error=agent, seeds=lists),
        "index": Target(run=read_index, error=agent, seeds=(dump(INDEX),)),
        "source": Target(run=read_source, error=archives.UnpackError, seeds=(*TARS, make_zip())),
        "requirements": Target(run=read_requirements, error=LockError, seeds=REQUIREMENTS),
        "seats": Target(run=seat.read_seats, error=agent, seeds=(dump(SEATS),)),
        "secret": Target(
            run=seat.read_secret,
            error=agent,
            seeds=(dump({"environment": {"A": "b"}, "secrets": {"C": "d"}}),),
        ),
        "wanted": Target(
            run=lambda data: sync.vet_wanted(wire.parse(data), 0),
            error=agent,
            seeds=(dump(WANTED),),
        ),
        "manifest": Target(run=parse_manifest, error=client, seeds=(dump(MANIFEST),)),
        "grants": Target(
            run=lambda data: Grants.from_dict(parse_json(data, "grants")),
            error=client,
            seeds=(dump(GRANTS),),
        ),
        "client-index": Target(
            run=lambda data: ArchiveIndex.from_dict(parse_json(data, "index")),
            error=client,
            seeds=(dump(INDEX),),
        ),
        "output": Target(run=parse_records, error=client, seeds=(PIECE,)),
        "results": Target(run=read_results, error=client, seeds=(dump(RESULTS),)),
        "packed-results": Target(
            run=lambda data: parse_index(data, instance="one", folder="one/", number=1),
            error=client,
            seeds=(gzip.compress(dump(RESULTS), mtime=0),),
        ),
        "report": Target(run=read_report, error=client, seeds=tuple(seeds.values())),
    }
