"""Writes archives: an ordinary multi-frame zstd tar, and the index that lets frames be fetched.

Files are ordered by the package that owns them and frames follow packages, so that an upgraded
package changes its own frames only. Deterministic: the same tree gives the same bytes.
"""

from __future__ import annotations

import csv
import ctypes
import hashlib
import json
import os
import shutil
import stat
import subprocess
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import tar, wire, workers, zstd
from .wire import AgentError

# A frame is cut at a package's end once it holds this much, and inside a package at CUT.
FULL = 2 << 20
CUT = 16 << 20
# The knee: 14 s for 1.67 GB on 2 cores; -3 takes 3 s and is 14 % larger.
LEVEL = 9
# 1980-01-02: zip files, and tools that make them, cannot tell an earlier time.
MTIME = 315619200
# In the prefix: the files of its layer, sorted, one a line, this one too.
LAYER_LIST = "lib/envboot/layer.txt"


class Piece(NamedTuple):
    """An entry of the tar, or one part of a file larger than a frame."""

    path: str
    owner: str
    kind: bytes
    mode: int
    size: int
    target: str = ""
    at: int = 0
    length: int = 0


def write_archive(
    tree: str,
    output: str,
    base: str,
    interpreter: str = "",
    level: int = LEVEL,
    done: Optional[Callable[[int, int], None]] = None,
) -> Dict[str, Any]:
    """Pack a prefix into `output` and return its index document; `done(raw, total)` as it goes.

    Raises:
        AgentError: no machine would unpack it: a link leads out of the prefix, and not to
            `interpreter`, or a path has too many levels.
    """
    frames = plan(tree, find_owners(tree), interpreter)
    rows: List[Any] = [None] * len(frames)
    scratch = output + ".frames"
    total, raw = sum(piece.length for frame in frames for piece in frame), 0
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)

    def work(number: int) -> List[Any]:
        data = _render(tree, frames[number])
        if number + 1 == len(frames):
            data += b"\0" * (2 * tar.BLOCK)
        frame = compress(data, level)
        with open("%s/%d" % (scratch, number), "wb") as stream:
            stream.write(frame)
        return [len(frame), len(data), hashlib.sha256(frame).hexdigest()]

    def finish(number: int, row: List[Any]) -> None:
        nonlocal raw
        rows[number] = row
        raw += row[1]
        if done:
            done(min(raw, total), total)

    try:
        workers.run(len(frames), work, finish, os.cpu_count() or 1)
        table, offset = [], 0
        with open(output, "wb") as stream:
            for number, (size, length, sha256) in enumerate(rows):
                first = frames[number][0]
                rest = [first.path, first.at, first.length, first.mode] if first.at else []
                table.append([offset, size, length, sha256, first.owner, *rest])
                offset += size
                with open("%s/%d" % (scratch, number), "rb") as frame:
                    shutil.copyfileobj(frame, stream, 1 << 20)
                os.unlink("%s/%d" % (scratch, number))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    files = sum(p.kind == tar.FILE and not p.at for frame in frames for p in frame)
    return {
        "index_version": wire.INDEX_VERSION,
        "base": base,
        "size": offset,
        "raw": raw,
        "files": files,
        "frames": table,
    }


def write_layer(tree: str, output: str, level: int = LEVEL) -> Tuple[str, int, int]:
    """Pack a small tree; returns the sha256 (hex) of the uncompressed tar, raw and packed bytes.

    The digest is of the tar, not of what this machine's libzstd makes of it.
    """
    content, raw, packed = hashlib.sha256(), 0, 0
    frames = plan(tree, {})
    with open(output, "wb") as stream:
        for number, frame in enumerate(frames):
            data = _render(tree, frame)
            if number + 1 == len(frames):
                data += b"\0" * (2 * tar.BLOCK)
            content.update(data)
            raw += len(data)
            packed += stream.write(compress(data, level))
    return content.hexdigest(), raw, packed


def plan(tree: str, owners: Dict[str, str], interpreter: str = "") -> List[List[Piece]]:
    """Share a tree's entries out over frames; entries without an owner come first.

    Raises:
        AgentError: as in `write_archive`.
    """
    frames: List[List[Piece]] = [[]]
    held, real, last = 0, 0, ""
    for owner, path in sorted((owners.get(path, ""), path) for path in _walk(tree)):
        tar.check(path)
        piece = _piece(tree, path, owner, interpreter)
        if piece.size > CUT:
            cuts = range(0, piece.size, CUT)
            frames += [[piece._replace(at=at, length=min(CUT, piece.size - at))] for at in cuts]
            frames.append([])
            held = real = 0
            continue
        # With long names, and content filled up to blocks.
        size = len(header(path, piece.kind, piece.mode, piece.size, piece.target))
        size += piece.size + tar.BLOCK
        # Small files in millions would make a frame larger than what is unpacked.
        if held + piece.size > CUT or real + size > zstd.MOST or (owner != last and held >= FULL):
            frames.append([])
            held = real = 0
        frames[-1].append(piece)
        held, real = held + piece.size + tar.BLOCK, real + size
        last = owner
    return [frame for frame in frames if frame] or [[]]


def confine(tree: str, path: str, target: str) -> str:
    """Return a link's target by the shortest way inside the tree, so that it can be checked.

    Raises:
        AgentError: it leads out.
    """
    top, full = os.path.realpath(tree), os.path.join(tree, path)
    above = os.path.realpath(os.path.dirname(full))
    real = os.path.realpath(os.path.join(above, target))
    if os.path.isabs(target) or os.path.commonpath([top, real]) != top:
        raise AgentError("the link %r leads out of the prefix: %r" % (path, target))
    return os.path.relpath(real, above)


def _piece(tree: str, path: str, owner: str, interpreter: str) -> Piece:
    full = tree + "/" + path
    info = os.lstat(full)
    # Neither setuid nor setgid: nobody should get rights from what a bucket holds.
    mode = stat.S_IMODE(info.st_mode) & 0o1777
    if stat.S_ISLNK(info.st_mode):
        target = os.readlink(full)
        if tar.leads_out(path, target) and target != interpreter:
            target = confine(tree, path, target)
        return Piece(path, owner, tar.LINK, 0o777, 0, target)
    if stat.S_ISDIR(info.st_mode):
        return Piece(path, owner, tar.DIRECTORY, mode, 0)
    if not stat.S_ISREG(info.st_mode):
        raise OSError("%s is neither a file, a folder nor a link" % path)
    if info.st_size >= 8**12:
        raise OSError("%s has %d bytes, a tar file takes 64 GiB" % (path, info.st_size))
    return Piece(path, owner, tar.FILE, mode, info.st_size, length=info.st_size)


def _walk(tree: str) -> List[str]:
    """Every entry below the tree, relative; only folders that a file does not imply."""
    found = []
    for folder, folders, names in os.walk(tree):
        relative = os.path.relpath(folder, tree)
        start = "" if relative == "." else relative + "/"
        links = [name for name in folders if os.path.islink(folder + "/" + name)]
        found += [start + name for name in names + links]
        plain = os.stat(folder).st_mode & 0o7777 == 0o755
        if start and not (plain and (names or folders)):
            found.append(relative)
    return found


def _render(tree: str, frame: List[Piece]) -> bytes:
    """Return a frame's bytes as they stand in the tar."""
    parts = []
    for piece in frame:
        if not piece.at:
            parts.append(header(piece.path, piece.kind, piece.mode, piece.size, piece.target))
        if piece.kind == tar.FILE:
            with open(tree + "/" + piece.path, "rb") as stream:
                stream.seek(piece.at)
                content = stream.read(piece.length)
            if len(content) != piece.length:
                raise OSError("%s changed while it was packed" % piece.path)
            parts.append(content)
            if piece.at + piece.length == piece.size:
                parts.append(b"\0" * (-piece.size % tar.BLOCK))
    return b"".join(parts)


def find_owners(tree: str) -> Dict[str, str]:
    """Map the paths in a prefix to the packages that own them, from conda-meta and RECORD."""
    owners: Dict[str, str] = {}
    meta = tree + "/conda-meta"
    for name in sorted(os.listdir(meta)) if os.path.isdir(meta) else []:
        if name.endswith(".json"):
            with open(meta + "/" + name, encoding="utf-8") as stream:
                record = json.load(stream)
            for path in [*record.get("files", ()), "conda-meta/" + name]:
                owners[path] = record["name"]
    for folder, folders, _ in os.walk(tree + "/lib"):
        if os.path.basename(folder) == "site-packages":
            for name in sorted(folders):
                if name.endswith(".dist-info"):
                    _own(owners, folder, name, tree)
            folders.clear()
        elif folder.count("/") - tree.count("/") > 2:
            folders.clear()
    # Byte code compiled here stands in no record: it goes where its source goes.
    for path in _walk(tree):
        if path.endswith(".pyc") and path not in owners and "/__pycache__/" in path:
            folder, _, name = path.rpartition("/__pycache__/")
            source = owners.get(folder + "/" + name.split(".")[0] + ".py")
            if source:
                owners[path] = source
    return owners


def _own(owners: Dict[str, str], site: str, info: str, tree: str) -> None:
    owner = info.split("-")[0].lower().replace("_", "-").replace(".", "-")
    try:
        with open("%s/%s/RECORD" % (site, info), encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if row:
                    path = os.path.normpath(site + "/" + row[0])
                    owners.setdefault(path[len(tree) + 1 :], owner)
    except OSError:
        pass


def header(path: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> bytes:
    """Return the blocks before an entry's content; long names get `@LongLink` blocks first."""
    blocks = b""
    name, link = os.fsencode(path), os.fsencode(target)
    for long, flag in ((link, b"K"), (name, b"L")):
        if len(long) > 100:
            content = long + b"\0"
            blocks += _block(b"././@LongLink", flag, 0o644, len(content), b"") + padded(content)
    return blocks + _block(name[:100], kind, mode, size, link[:100])


def padded(content: bytes) -> bytes:
    """Return content filled up to whole blocks."""
    return content + b"\0" * (-len(content) % tar.BLOCK)


def _block(name: bytes, kind: bytes, mode: int, size: int, link: bytes) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"0000000\0" * 2,
        # All twelve digits from 8 GiB on, as GNU tar and star read them.
        (b"%011o\0" % size)[:12],
        b"%011o\0" % MTIME,
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar  \0",
    )
    block = b"".join(fields).ljust(tar.BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def compress(data: bytes, level: int) -> bytes:
    """Return one zstd frame that holds `data`."""
    if zstd.lib is None:
        command = ["zstd", "-q", "-%d" % level, "--no-check", "--stream-size=%d" % len(data)]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode:
            raise AgentError("zstd: " + done.stderr.decode(errors="replace"))
        return done.stdout
    lib, size = zstd.lib, ctypes.c_size_t
    lib.ZSTD_compressBound.restype = lib.ZSTD_compress.restype = size
    bound = lib.ZSTD_compressBound(size(len(data)))
    target = ctypes.create_string_buffer(bound)
    used = lib.ZSTD_compress(target, size(bound), data, size(len(data)), ctypes.c_int(level))
    return target.raw[: zstd.checked(used)]
