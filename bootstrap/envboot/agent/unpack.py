"""Fetches an archive's frames and writes their files, several processes at once."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Callable, Dict, List

from . import fetch, tar, wire, workers, zstd
from .wire import AgentError

# Neighbouring frames are read in one request of about this many bytes.
SPAN = 6 << 20


def check_index(index: Dict[str, Any], base: str) -> None:
    """Raise AgentError when an index is of another version or base, or has gaps."""
    at = 0
    for row in index["frames"]:
        if row[0] != at:
            break
        at += row[1]
    else:
        if (index["index_version"], index["base"], index["size"]) == (wire.INDEX_VERSION, base, at):
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
    url: str, index: Dict[str, Any], folder: str, done: Callable[[int], None], processes: int = 0
) -> None:
    """Fetch and verify every frame and write its files below `folder`; `done(bytes)` as it goes.

    Raises:
        AgentError: a frame could not be fetched, or is not what the index says.
    """
    processes = processes or 2 * (os.cpu_count() or 1)
    groups = spans(index, processes)

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
                tar.write(folder + "/" + path, 0, content[:length], start, raw + 1)
            else:
                tar.extract(content, folder)
        return at

    workers.run(len(groups), work, lambda _, size: done(size), processes)
    for path, mode in {row[5]: row[8] for row in index["frames"] if row[5:]}.items():
        os.chmod(folder + "/" + path, mode)


def unpack_layer(data: bytes, digest: str, folder: str) -> None:
    """Write a layer's files below `folder`; AgentError when its tar is not the digest's."""
    content = zstd.decode_all(data)
    if hashlib.sha256(content).hexdigest() != digest[7:]:
        raise AgentError("corrupt: the layer is not what was packed")
    view = memoryview(content)
    for path, kind, *_ in tar.read(view):
        if kind != tar.DIRECTORY and os.path.lexists(folder + "/" + path):
            # The base's file, and the same inode as the copy that will be published.
            os.unlink(folder + "/" + path)
    tar.extract(view, folder)
