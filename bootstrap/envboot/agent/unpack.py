"""Fetches an archive's frames and writes their files, several processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from typing import Any, Callable, Dict, List

from . import fetch, tar, wire, workers, zstd
from .wire import AgentError

# Neighbouring frames are read in one request of about this many bytes.
SPAN = 6 << 20


def check_index(index: Dict[str, Any], base: str) -> None:
    """Raise AgentError unless an index is whole, of this base, and such as `pack` writes.

    Whoever can write to the bucket may have written it: what it makes us read, hold in memory
    and write is bounded before anything is fetched.
    """
    at = total = 0
    with contextlib.suppress(Exception):
        rows = index["frames"]
        for offset, size, raw, *_ in rows:
            if offset != at or not 0 < size <= zstd.MOST >= raw >= 0:
                break
            at, total = at + size, total + raw
        else:
            found = [index["index_version"], index["base"], index["size"], index["raw"]]
            # A frame holds 2 MiB, but for the last one and those between large files.
            if rows[(total >> 20) + 16 :] == [] and found == [wire.INDEX_VERSION, base, at, total]:
                return
    raise AgentError("the index is not one of this base")


def spans(index: Dict[str, Any], workers_: int) -> List[List[Any]]:
    """Group neighbouring frames into requests, so that every process has some to take."""
    limit = min(SPAN, index["size"] // (4 * workers_))
    groups: List[List[Any]] = []
    room = 0
    for row in index["frames"]:
        if room <= 0:
            groups.append([])
            room = limit
        groups[-1].append(row)
        room -= row[1]
    return groups


def unpack_archive(
    url: str,
    index: Dict[str, Any],
    folder: str,
    done: Callable[[int], None],
    interpreter: str = "",
    processes: int = 0,
) -> None:
    """Fetch and verify every frame and write its files below `folder`; `done(bytes)` as it goes.

    The index has been checked; `interpreter` is the only place outside that links may lead to.

    Raises:
        AgentError: a frame could not be fetched, is not what the index says or leads out of the
            folder; or the disk has no room.
    """
    processes = processes or 2 * (os.cpu_count() or 1)
    groups = spans(index, processes)
    if shutil.disk_usage(os.path.dirname(folder)).free < index["raw"]:
        raise AgentError("the disk has no room for %d bytes" % index["raw"])
    tree = tar.Tree(folder, interpreter)

    def work(number: int) -> int:
        group, at = groups[number], 0
        data = memoryview(fetch.read(url, group[0][0], sum(row[1] for row in group)))
        for offset, size, raw, sha256, _, *piece in group:
            packed = bytes(data[at : at + size])
            at += size
            if hashlib.sha256(packed).hexdigest() != sha256:
                raise AgentError("corrupt: the frame at byte %d is not what was packed" % offset)
            content = zstd.decode(packed, raw)
            if piece:
                path, start, length, _ = piece
                tree.write(path, 0, content[:length], start, raw + 1)
            else:
                tar.extract(content, tree)
        return at

    with contextlib.closing(tree):
        workers.run(len(groups), work, lambda _, size: done(size), processes)
        for path, mode in {row[5]: row[8] for row in index["frames"] if row[5:]}.items():
            tree.write(path, mode, memoryview(b""), 1, 0)


def unpack_layer(data: bytes, layer: Dict[str, Any], folder: str) -> None:
    """Write a layer's files below `folder`; AgentError when its tar is not the manifest's.

    What conda installed of its projects is removed first.
    """
    found = hashlib.sha256()
    for content in zstd.decode_all(data):
        found.update(content)
    if found.hexdigest() != layer["digest"][7:]:
        raise AgentError("corrupt: the layer is not what was packed")
    # Only now, and known to be what the launch sent, is it held in memory as a whole.
    whole = b"".join(map(bytes, zstd.decode_all(data)))
    with contextlib.suppress(ImportError):
        # Only documents with projects and conda packages have it.
        from . import room

        room.make(folder, layer)
    with contextlib.closing(tar.Tree(folder)) as tree:
        # A file of the base is the same inode as the copy that will be published.
        tar.extract(memoryview(whole), tree, over=True)
