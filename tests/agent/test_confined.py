"""What comes from a bucket, anyone may have written: it stays inside, and takes only so much."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import struct
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from envboot.agent import conda, fetch, pack, private, tar, unpack, wire, workers, zstd
from envboot.agent.host import Host
from tests.agent.trees import snapshot, write

BASE = "sha256:" + "0" * 64
# A frame of 19 bytes that says that it holds 3 GiB.
BOMB = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 3 << 30) + bytes.fromhex("010000000000")


def entry(
    name: str, kind: bytes = tar.FILE, data: bytes = b"", target: str = "", mode: int = 0o644
) -> bytes:
    return pack.header(name, kind, mode, len(data), target) + pack.padded(data)


def extract(data: bytes | memoryview, folder: Path, interpreter: str = "") -> None:
    with closing(tar.Tree(str(folder), interpreter)) as tree:
        tar.extract(memoryview(data), tree)


def resize(block: bytes, size: bytes) -> bytes:
    """Put other characters where an entry's size stands."""
    return block[:124] + size.ljust(12, b"\0") + block[136:]


HOSTILE = {
    "an empty part": entry("lib//file"),
    "a dot": entry("lib/./file"),
    "a slash at the end": entry("lib/", tar.DIRECTORY),
    "a NUL": entry("lib\0file".ljust(110, "x")),
    "too deep": entry("a/" * 99 + "a"),
    "setuid": entry("su", mode=0o4755),
    "setgid": entry("sg", mode=0o2755),
    "setgid on a folder": entry("folder", tar.DIRECTORY, mode=0o2755),
    "a negative mode": entry("file", mode=-1),
    "a negative size": resize(entry("file"), b"-0000001000"),
    "a size that is no number": resize(entry("file"), b"many"),
    "a negative size of a long name": resize(entry("a" * 120), b"-0000001000"),
    "a link out": entry("bin/python", tar.LINK, target="/usr/bin/python3"),
    "a link to above": entry("lib/link", tar.LINK, target="../../etc"),
    "a link to above later": entry("lib/link", tar.LINK, target="up/../../etc"),
    "a link up behind a name": entry("lib/link", tar.LINK, target="up/../x"),
    "a long link out": entry("link", tar.LINK, target="/" + "a" * 120),
    "absolute": entry("/etc/passwd", data=b"x"),
    "above": entry("../escaped", data=b"x"),
    "above later": entry("lib/../../escaped", data=b"x"),
    "above at the end": entry("lib/..", tar.DIRECTORY),
    "above by a long name": entry("a/" * 60 + "../" * 61 + "escaped", data=b"x"),
    "absolute by a long name": entry("/" + "a" * 120, data=b"x"),
    "a link above": entry("../link", tar.LINK, target="/etc"),
    "a hard link": entry("passwd", b"1", target="/etc/passwd"),
    "a device": entry("null", b"3"),
    "a pipe": entry("pipe", b"6"),
    "a pax header": entry("pax", b"x", b"20 path=../escaped\n"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_entries_that_lead_out_of_the_folder_are_refused(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "in" / "env"
    folder.mkdir(parents=True)
    data = memoryview(content + b"\0" * 1024)
    with pytest.raises(wire.AgentError, match="not an entry of an archive"):
        extract(data, folder)
    assert not list(folder.iterdir())
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "env"]


def test_names_that_only_look_like_leading_out_are_kept(tmp_path: Path) -> None:
    names = ["..a", "a..", "a/...", "..."]
    extract(b"".join(entry(name) for name in names), tmp_path / "env")
    assert snapshot(tmp_path / "env").keys() == {*names, "a"}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is none of an archive's business."""
    folder = tmp_path / "outside"
    write(folder, "file", b"kept")
    return folder


@pytest.mark.parametrize("target", ["{}", "../outside"], ids=["absolute", "relative"])
def test_a_link_that_is_there_already_is_never_followed(
    tmp_path: Path, outside: Path, target: str
) -> None:
    folder = tmp_path / "env"
    folder.mkdir()
    (folder / "x").symlink_to(target.format(outside))
    (folder / "file").symlink_to(target.format(outside / "file"))
    before = snapshot(outside)
    for hostile in (entry("x/evil", data=b"x"), entry("x/sub", tar.DIRECTORY), entry("file")):
        with pytest.raises(wire.AgentError):
            extract(hostile, folder)
    with closing(tar.Tree(str(folder))) as tree, pytest.raises(OSError, match="Not a directory"):
        tree.remove("x/file")
    assert snapshot(outside) == before


def test_links_stay_inside_or_lead_to_the_interpreter(tmp_path: Path) -> None:
    links = {
        "lib64": "lib",
        "bin/python": "/usr/bin/python3.11",
        "bin/python3": "python",
        "lib/terminfo": "../share/terminfo",
        "lib/a/b/c": "../../..",
        "lib/libz.so": "libz.so.1",
        "lib/..data": "..dots",
    }
    content = b"".join(entry(path, tar.LINK, target=links[path]) for path in links)
    extract(content, tmp_path / "env", "/usr/bin/python3.11")
    found = snapshot(tmp_path / "env")
    assert {path: found[path][2] for path in links} == links
    link = entry("bin/python", tar.LINK, target="/usr/bin/python3")
    with pytest.raises(wire.AgentError, match="/usr/bin/python3'"):
        extract(link, tmp_path / "other", "/usr/bin/python3.11")


def test_more_folders_than_a_process_may_open_are_written(tmp_path: Path) -> None:
    names = [f"{number}/{deep}file" for number in range(300) for deep in ("", "a/b/c/")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    try:
        extract(b"".join(entry(name) for name in names), tmp_path / "env")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {name for name, kind in snapshot(tmp_path / "env").items() if kind[0] == "file"} == {
        *names
    }


@pytest.mark.subprocess
def test_what_is_packed_can_be_unpacked(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write(tree, "bin/su", b"x", 0o6755)
    write(tree, "real/deep/file", b"x")
    (tree / "link").symlink_to("real/deep")
    (tree / "bin/python").symlink_to("/usr/bin/python3")
    # By its letters it leads to `bin`, in truth to `real`.
    (tree / "bin/through").symlink_to("../link/../deep/file")
    output = str(tmp_path / "packed")
    pack.write_archive(str(tree), output, BASE, "/usr/bin/python3", level=1)
    data = b"".join(map(bytes, zstd.decode_all(Path(output).read_bytes())))
    extract(data, tmp_path / "out", "/usr/bin/python3")
    found = snapshot(tmp_path / "out")
    assert found["bin/su"][1] == 0o755
    assert found["bin/through"] == ("link", 0, "../real/deep/file")
    assert found["bin/python"] == ("link", 0, "/usr/bin/python3")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../bin/../../x"])
def test_a_link_that_leads_out_is_never_packed(tmp_path: Path, target: str) -> None:
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/link").symlink_to(target)
    with pytest.raises(wire.AgentError, match="the link 'bin/link' leads out of the prefix"):
        pack.write_archive(str(tmp_path / "tree"), str(tmp_path / "packed"), BASE)


def make_index(rows: list[list[Any]], **changes: Any) -> dict[str, Any]:
    """Return an index of frames: size, raw, and what follows the owner."""
    frames, at = [], 0
    for size, raw, *rest in rows:
        frames.append([at, size, raw, "0" * 64, "", *rest])
        at += size
    total = sum(row[1] for row in rows)
    return {
        "index_version": 1,
        "base": BASE,
        "size": at,
        "raw": total,
        "files": 0,
        "frames": frames,
        **changes,
    }


@pytest.mark.parametrize(
    "index",
    [
        make_index([[100, zstd.MOST + 1]]),
        make_index([[zstd.MOST + 1, 100]]),
        make_index([[100, -1]]),
        make_index([[0, 100]]),
        make_index([[100, 3 << 30]] * 3),
        make_index([[7 << 20, 1]] * 270_000),
        make_index([[10, 1000]] * 1000),
        make_index([[100, 512]], raw=100),
        make_index([[100, 512]], raw=None),
    ],
    ids=["raw", "size", "negative raw", "no size", "gigabytes", "rows", "tiny", "sum", "no sum"],
)
def test_an_index_that_asks_for_too_much_is_refused(index: dict[str, Any]) -> None:
    with pytest.raises(wire.AgentError, match="not one of this base"):
        unpack.check_index(index, BASE)
    unpack.check_index(make_index([[100, 512], [1, zstd.MOST]]), BASE)


def test_an_archive_that_the_disk_has_no_room_for_is_not_fetched(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    frames = disk.f_bavail * disk.f_frsize // zstd.MOST + 2
    index = make_index([[100, zstd.MOST]] * frames)
    unpack.check_index(index, BASE)
    with pytest.raises(wire.AgentError, match="the disk has no room for"):
        unpack.unpack_archive("http://127.0.0.1:1/", index, str(tmp_path / "env"), print)


def test_a_frame_takes_no_memory_for_what_it_claims(tmp_path: Path) -> None:
    assert len(BOMB) == 19
    for raw in (3 << 30, -1):
        with pytest.raises(wire.AgentError, match="zstd: a frame of "):
            zstd.decode(BOMB, raw)
    digest = "sha256:" + hashlib.sha256(b"").hexdigest()
    with pytest.raises(wire.AgentError, match=f"zstd: a frame of {3 << 30} bytes"):
        unpack.unpack_layer(BOMB, {"digest": digest}, str(tmp_path / "env"))
    # Each is small; all together they are not.
    many = pack.compress(bytes(zstd.MOST), 1) * 171
    with pytest.raises(wire.AgentError, match="zstd: a frame of -1 bytes"):
        for _ in zstd.decode_all(many):
            pass


@pytest.mark.subprocess
def test_more_jobs_than_a_pipe_holds_are_all_done() -> None:
    found: list[int] = []
    workers.run(270_000, lambda number: number, lambda _, result: found.append(result), 3)
    assert sorted(found) == list(range(270_000))


@pytest.mark.subprocess
def test_what_workers_say_never_mixes() -> None:
    def fail(number: int) -> None:
        raise ValueError("\N{SNAKE}\n" * 5000)

    with pytest.raises(wire.AgentError) as caught:
        workers.run(100, fail, lambda *_: None, 8)
    assert str(caught.value) == "\N{SNAKE} " * 150


@pytest.mark.sockets
def test_text_from_elsewhere_is_one_line_that_terminals_do_not_obey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(str(tmp_path))
    address = f"\0envboot-test-{os.getpid()}"
    hostile = "no\nREADY=1\r\x1b[2J\u2028\u202e\ud800\x00end"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        host.notify(hostile)
        assert systemd.recv(9999) == b"STATUS=no READY=1  [2J    end"
        with pytest.raises(wire.AgentError), host.stage("fetch"):
            raise wire.AgentError(hostile)
    record = json.loads(Path(host.state, "events.jsonl").read_text())
    assert record["MESSAGE"] == "fetch: no READY=1  [2J    end, 0 ms"
    assert host.stages[0]["error"] == "no READY=1  [2J    end"


@pytest.mark.subprocess
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming nobody needs root")
def test_an_interpreter_from_the_bucket_runs_as_nobody() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = Host(f"{folder}/root")
        host.manifest = {"base": {"prefix": f"{folder}/root/opt/envboot/env"}}
        program = Path(host.envs, ".1.2/env/bin/python")
        write(Path(folder, "root"), str(program.relative_to(f"{folder}/root")), b"", 0o755)
        program.write_text('#!/bin/sh\necho "$(id -u) $(id -g) $(id -G)"\nyes | head -c 5000\n')
        found = conda.ask(host, str(program), "")
    assert found.startswith("65534 65534 65534\ny\n")
    assert len(found) < 1000


PACKAGE = b"a conda package"
PINNED = {
    "url": "https://conda.example/private/linux-64/mine-1-0.conda",
    "sha256": hashlib.sha256(PACKAGE).hexdigest(),
}
PLACE = "conda.example/private/linux-64/mine-1-0.conda"


@pytest.mark.parametrize(
    "content",
    [
        entry(PLACE, data=PACKAGE + b"!"),
        entry(PLACE, data=PACKAGE) + entry(".condarc", data=b"x"),
        entry(PLACE, tar.LINK, target="mine"),
        entry("pkgs/mine-1-0/info/index.json", data=PACKAGE),
        entry(PLACE, data=PACKAGE)[:-512],
    ],
    ids=["other content", "another file", "link", "elsewhere", "cut"],
)
def test_only_pinned_packages_are_taken_from_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    host = Host(str(tmp_path / "root"))
    host.grants = {"packages": {"get": "http://bucket/packages.tar"}}
    monkeypatch.setattr(fetch, "read", lambda url: entry(PLACE, data=PACKAGE))
    private.bring(host, [PINNED], str(tmp_path / "good"))
    assert (tmp_path / "good" / PLACE).read_bytes() == PACKAGE
    monkeypatch.setattr(fetch, "read", lambda url: content)
    with pytest.raises(wire.AgentError, match="is not what was pinned"):
        private.bring(host, [PINNED], str(tmp_path / "bad"))
    assert not (tmp_path / "bad").exists()
