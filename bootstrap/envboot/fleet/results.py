"""What commands have made, as the bucket has it: the newest index of each instance.

Whoever may write to the bucket, or is root on a machine, may have written an index: it is read
strictly, and nothing in it is larger than what agents write.
"""

from __future__ import annotations

import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from envboot.documents import parse_json, show_value
from envboot.errors import DocumentError
from envboot.publish.layout import results_prefix
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envboot.store.protocol import Store

MOST_PACKED, MOST = 8 << 20, 96 << 20
"""Bytes of an index, compressed and not."""
MOST_BLOB = 4 << 20
MOST_FILES = 100_000
DEEPEST = 100
"""Directories above a file at most, as in archives."""
AT_ONCE = 16
TRIED = 3
"""How many indexes of an instance are tried, from the newest on, where one cannot be read."""
CONTROL = frozenset({".git", ".hg", ".svn"})
"""Agents send nothing of these: what is written there, version control may execute."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INDEX = re.compile(r"(?P<folder>.+/)(?P<number>\d{9})\.json\.gz")


class Extent(NamedTuple):
    """A piece of a file: `length` bytes of a blob, from `offset` on."""

    blob: str
    offset: int
    length: int


class ResultFile(NamedTuple):
    """One file: its path below the command's directory, and what it is made of.

    `mtime` is in nanoseconds since 1970, `mode` has the permissions.
    """

    path: str
    size: int
    mode: int
    mtime: int
    sha256: str
    extents: tuple[Extent, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Files that did not go to the bucket for one reason: how many, and the first names."""

    reason: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultIndex:
    """The files of one instance at one time.

    `folder` is where its blobs are in the bucket. `rank` is what the instance says.
    """

    instance: str
    folder: str
    number: int
    files: tuple[ResultFile, ...]
    rank: int | None = None
    left: tuple[LeftOut, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(kw_only=True, slots=True)
class Results:
    """The newest readable index of each instance, by rank; `malformed` are keys of others."""

    indexes: list[ResultIndex] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)


def read_results(
    store: Store, launch: str, *, known: Sequence[str] = (), only_known: bool = False
) -> Results:
    """Read the newest index of every instance of a launch.

    `known` are the names of its instances by rank, which count before what an instance says; with
    `only_known` there are no others.

    Raises:
        StoreError: the bucket cannot be read.
    """
    found = Results()
    folders = list(_find_folders(store, launch))
    with ThreadPoolExecutor(min(AT_ONCE, max(len(folders), 1))) as pool:
        read = pool.map(lambda pair: _read_newest(store, *pair), folders)
        for (instance, folder), (index, malformed) in zip(folders, read, strict=True):
            found.malformed += malformed
            is_taken = any(each.instance == instance for each in found.indexes)
            if is_taken or (only_known and instance not in known):
                found.malformed.append(folder)
            elif index:
                found.indexes.append(index)
    ranks = {name: rank for rank, name in enumerate(known)}
    given = set(ranks.values())
    placed = []
    for index in found.indexes:
        rank = ranks.get(index.instance, index.rank)
        if index.instance not in ranks and rank in given:
            # Two cannot both be it, and they must not share a directory.
            rank = None
        given.add(rank if rank is not None else -1)
        placed.append(replace(index, rank=rank))
    found.indexes = sorted(placed, key=lambda each: (each.rank is None, each.rank, each.instance))
    return found


def _find_folders(store: Store, launch: str) -> Iterator[tuple[str, str]]:
    """Yield each instance that has results, and where they are.

    Instances with a role of AWS have theirs in a folder that is named by their ARN.
    """
    top = results_prefix(launch)
    for name in store.list_folder(top).folders:
        if not name.isprintable():
            continue
        if name.startswith("arn:"):
            for below in store.list_folder(f"{top}{name}/").folders:
                if below.isprintable():
                    yield below, f"{top}{name}/{below}/"
        else:
            yield name, f"{top}{name}/"


def _read_newest(store: Store, instance: str, folder: str) -> tuple[ResultIndex | None, list[str]]:
    malformed: list[str] = []
    keys = [stat.key for stat in store.list_folder(folder).objects]
    numbered = {int(match["number"]): key for key in keys if (match := _INDEX.fullmatch(key))}
    for number in sorted(numbered, reverse=True)[:TRIED]:
        key = numbered[number]
        try:
            data = store.read(key, most=MOST_PACKED)
            if data is not None:
                return parse_index(data, instance=instance, folder=folder, number=number), malformed
        except (DocumentError, MalformedError):
            malformed.append(key)
    return None, malformed


def parse_index(data: bytes, *, instance: str, folder: str, number: int) -> ResultIndex:
    """Read an index; raises `DocumentError` where no agent would have written it. Pure."""
    document = parse_json(_decompress(data), "index of results")
    if not isinstance(document, dict):
        raise _refuse("the index", document)
    blobs, rows = document.get("blobs"), document.get("files")
    if not isinstance(blobs, list) or not all(
        isinstance(blob, str) and _SHA256.fullmatch(blob) for blob in blobs
    ):
        raise _refuse("blobs", blobs)
    if not isinstance(rows, list) or len(rows) > MOST_FILES:
        raise _refuse("files", rows)
    files = tuple(_read_file(row, blobs, f"files[{at}]") for at, row in enumerate(rows))
    paths = {file.path for file in files}
    folders = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"}
    if len(paths) != len(files) or paths & folders:
        raise DocumentError("Expected each path of an index of results once")
    rank = document.get("rank")
    return ResultIndex(
        instance=instance,
        folder=folder,
        number=number,
        files=files,
        rank=rank if type(rank) is int and 0 <= rank < 10**6 else None,
        left=read_left(document.get("left")),
    )


def read_left(value: Any) -> tuple[LeftOut, ...]:
    """Read what was left out, by reason; raises `DocumentError`."""
    found: Mapping[str, Any] = value if isinstance(value, dict) else {}
    left = []
    for reason, pair in found.items():
        if not (isinstance(pair, list) and len(pair) == 2 and _is_count(pair[0])):
            raise _refuse("left", pair)
        names = pair[1]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _refuse("left", names)
        left.append(LeftOut(reason=reason, count=pair[0], names=tuple(names[:20])))
    return tuple(left[:20])


def _decompress(data: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        text = reader.decompress(data, MOST + 1)
    except zlib.error as error:
        raise DocumentError("Expected a compressed index", causes=(str(error),)) from error
    if len(text) > MOST or not reader.eof:
        raise DocumentError(f"Expected an index of at most {MOST:,} bytes")
    return text


def _read_file(row: Any, blobs: list[str], where: str) -> ResultFile:
    if not isinstance(row, list) or len(row) != 6:
        raise _refuse(where, row)
    path, size, mode, mtime, sha256, pieces = row
    if not isinstance(path, str) or find_fault(path):
        raise _refuse(where, path)
    if not (_is_count(size) and _is_count(mode) and type(mtime) is int and abs(mtime) < 2**62):
        raise _refuse(where, row[1:4])
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise _refuse(where, sha256)
    if not isinstance(pieces, list):
        raise _refuse(where, pieces)
    extents = tuple(_read_extent(piece, blobs, where) for piece in pieces)
    if sum(extent.length for extent in extents) != size:
        raise DocumentError(f"Expected extents of {size} bytes at `{where}`")
    return ResultFile(path, size, mode & 0o777, mtime, sha256, extents)


def _read_extent(piece: Any, blobs: list[str], where: str) -> Extent:
    if not (isinstance(piece, list) and len(piece) == 3 and all(map(_is_count, piece))):
        raise _refuse(where, piece)
    number, offset, length = piece
    if number >= len(blobs) or not length or offset + length > MOST_BLOB:
        raise _refuse(where, piece)
    return Extent(blobs[number], offset, length)


def find_fault(path: str) -> str | None:
    """Return why no file is written at such a path, None where one may be."""
    parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
        return "it leads elsewhere"
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if len(parts) > DEEPEST:
        return "it is too deep"
    if not CONTROL.isdisjoint(part.lower() for part in parts):
        return "it belongs to version control"
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _refuse(where: str, value: Any) -> DocumentError:
    return DocumentError(f"Cannot read `{where}` of an index of results: `{show_value(value)}`")
