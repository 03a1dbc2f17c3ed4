"""The index of a published archive: its frames, and what is in which. Written by guests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.agent import wire
from envboot.documents import Node, parse_json, show_value
from envboot.errors import DocumentError
from envboot.publish.layout import Keys
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from envboot.manifest import Manifest
    from envboot.store.protocol import Store

_VERSION = re.compile(str(wire.INDEX_VERSION))
_COLUMNS = ("offset", "size", "raw", "sha256", "owner", "path", "start", "length", "mode")
_KINDS = (int, int, int, str, str, str, int, int, int)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePiece:
    """A part of one large file: its path, where the part begins, its length, the file's mode."""

    path: str
    start: int
    length: int
    mode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One zstd frame of the archive: where it is, its bytes packed and raw, whose files it has.

    `piece` is set where it holds a part of one large file and no tar entries.
    """

    offset: int
    size: int
    raw: int
    sha256: str
    owner: str
    piece: FilePiece | None = None

    def to_row(self) -> list[Any]:
        """Return the row of the document."""
        row: list[Any] = [self.offset, self.size, self.raw, self.sha256, self.owner]
        if self.piece:
            row += [self.piece.path, self.piece.start, self.piece.length, self.piece.mode]
        return row

    @classmethod
    def from_row(cls, row: Any, path: str) -> Frame:
        """Read a row of five or nine members; `path` names it in the error.

        Raises:
            DocumentError: it has other members.
        """
        if not isinstance(row, list) or len(row) not in (5, len(_COLUMNS)):
            found = show_value(row, 60)
            raise DocumentError(f"Expected a row of 5 or 9 at `{path}`, found `{found}`")
        for name, kind, value in zip(_COLUMNS, _KINDS, row, strict=False):
            if type(value) is not kind:
                raise DocumentError(
                    f"Expected `{path}.{name}` a {kind.__name__}, found `{show_value(value, 60)}`"
                )
        piece = (
            FilePiece(path=row[5], start=row[6], length=row[7], mode=row[8]) if row[5:] else None
        )
        return cls(offset=row[0], size=row[1], raw=row[2], sha256=row[3], owner=row[4], piece=piece)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveIndex:
    """`index.json`: the archive of a base; `size` and `raw` are its bytes, packed and unpacked."""

    base: str
    size: int
    raw: int
    files: int
    frames: tuple[Frame, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "index_version": wire.INDEX_VERSION,
            "base": self.base,
            "size": self.size,
            "raw": self.raw,
            "files": self.files,
            "frames": [frame.to_row() for frame in self.frames],
        }

    @classmethod
    def from_dict(cls, document: Any) -> ArchiveIndex:
        """Read a document; raises `DocumentError` with the dotted path of what is wrong."""
        node = Node(document, "")
        node.take("index_version", int, _VERSION)
        rows = node.take("frames", list)
        found = cls(
            base=node.take("base", str),
            size=node.take("size", int),
            raw=node.take("raw", int),
            files=node.take("files", int),
            frames=tuple(Frame.from_row(row, f"frames[{i}]") for i, row in enumerate(rows)),
        )
        node.end()
        return found


def read_archive_index(store: Store, manifest: Manifest) -> ArchiveIndex | None:
    """Return the index of the published archive, None where there is none that can be read.

    Raises:
        StoreError: the bucket cannot be read.
    """
    try:
        data = store.read(Keys(manifest).index)
        if data is None:
            return None
        return ArchiveIndex.from_dict(parse_json(data, "index"))
    except (DocumentError, MalformedError):
        # Guests fall back to installing, and so does the estimate of the disk.
        return None
