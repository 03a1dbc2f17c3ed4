"""How a published archive differs from a prefix that was installed again.

The archive is read as machines read it, frame by frame, and nothing of it is written to the disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envboot.agent import fetch, pack, tar, zstd
from envboot.agent.unpack import spans
from envboot.agent.wire import AgentError, without_query
from envboot.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from envboot.publish.archive_index import ArchiveIndex

MOST = 1000
"""Differences that are collected at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One entry that differs: its path in the prefix, and how.

    `kind` is `content`, `mode`, `link`, `type`, `missing` (the archive lacks it) or `extra` (only
    the archive has it, or has it twice). `expected` and `found` are of the installation and of the
    archive: a mode, a link's target, a number of bytes.
    """

    path: str
    kind: str
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        """Return one line for people."""
        known = (("expected", self.expected), ("found", self.found))
        seen = ", ".join(f"{word} {value}" for word, value in known if value is not None)
        return f"{self.path}: {self.kind}" + (f" ({seen})" if seen else "")


def compare_archive(
    url: str,
    index: ArchiveIndex,
    tree: Path,
    interpreter: str = "",
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Difference]:
    """Return how the archive at `url` differs from what packing `tree` would give.

    `interpreter` is the only place outside the prefix that links may lead to; `progress` is given
    bytes of the archive, seen and in all.

    Raises:
        StoreError: the archive cannot be read, or is not what its index says.
    """
    try:
        expected = [p for frame in pack.plan(str(tree), {}, interpreter) for p in frame if not p.at]
        found = _Comparison(tree=tree, expected={piece.path: piece for piece in expected})
        document, done = index.to_dict(), 0
        for group in spans(document, 1):
            data = memoryview(fetch.read(url, group[0][0], sum(row[1] for row in group)))
            at = 0
            for offset, size, raw, sha256, _, *piece in group:
                packed = bytes(data[at : at + size])
                at += size
                if hashlib.sha256(packed).hexdigest() != sha256:
                    raise AgentError(f"the frame at byte {offset} is not what its index says")
                content = zstd.decode(packed, raw)
                if piece:
                    found.see_piece(content, *piece)
                else:
                    found.see_entries(tar.read(content))
            done += at
            progress(done, index.size)
    except (AgentError, OSError) as error:
        raise StoreError(
            f"Failed to compare `{without_query(url)}` with an installation", causes=(str(error),)
        ) from error
    return found.finish()


@dataclass(kw_only=True, slots=True)
class _Comparison:
    """What packing the tree gives, and what was seen of the archive so far."""

    tree: Path
    expected: dict[str, pack.Piece]
    # Bytes of each entry that were seen, in their order.
    seen: dict[str, int] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)

    def add(self, path: str, kind: str, expected: object = None, found: object = None) -> None:
        """Remember the first difference of a path."""
        if len(self.differences) < MOST:
            texts = (None if value is None else str(value) for value in (expected, found))
            first, second = texts
            made = Difference(path=path, kind=kind, expected=first, found=second)
            self.differences.setdefault(path, made)

    def see_entries(self, entries: Iterable[tuple[str, bytes, int, int, memoryview, str]]) -> None:
        """Compare the entries of one frame."""
        for path, kind, mode, size, content, target in entries:
            piece = self.expected.get(path)
            if piece is None or path in self.seen:
                self.add(path, "extra")
                continue
            self.seen[path] = len(content)
            if kind != piece.kind:
                self.add(path, "type", _name(piece.kind), _name(kind))
            elif kind == tar.LINK:
                if target != piece.target:
                    self.add(path, "link", piece.target, target)
            elif mode != piece.mode:
                self.add(path, "mode", f"{piece.mode:o}", f"{mode:o}")
            elif kind == tar.FILE:
                self._compare(piece, content, 0, size)

    def see_piece(self, content: memoryview, path: str, start: int, length: int, mode: int) -> None:
        """Compare a frame that holds a part of one large file."""
        piece = self.expected.get(path)
        if piece is None or path not in self.seen:
            self.add(path, "extra")
        elif mode != piece.mode:
            self.add(path, "mode", f"{piece.mode:o}", f"{mode:o}")
        elif start != self.seen[path] or not 0 <= length <= len(content):
            self.add(path, "content")
        else:
            self.seen[path] += length
            self._compare(piece, content[:length], start, piece.size)

    def _compare(self, piece: pack.Piece, content: memoryview, start: int, size: int) -> None:
        if size != piece.size:
            self.add(piece.path, "content", f"{piece.size:,} bytes", f"{size:,} bytes")
            return
        with (self.tree / piece.path).open("rb") as stream:
            stream.seek(start)
            if stream.read(len(content)) != content:
                self.add(piece.path, "content")

    def finish(self) -> list[Difference]:
        """Return every difference, those that the archive has first."""
        for path, piece in self.expected.items():
            if path not in self.seen:
                self.add(path, "missing")
            elif piece.kind == tar.FILE and self.seen[path] != piece.size:
                self.add(path, "content", f"{piece.size:,} bytes", f"{self.seen[path]:,} bytes")
        return list(self.differences.values())


def _name(kind: bytes) -> str:
    return {tar.DIRECTORY: "directory", tar.FILE: "file", tar.LINK: "link"}.get(kind, "unknown")
