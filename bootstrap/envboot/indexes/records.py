"""The RECORD of a wheel on an index, without the wheel: ranges of the zip file are enough.

What was read is cached forever under the wheel's sha256. A server that knows no ranges
(RFC 9110, 14.2) sends the whole file, which is then read, and its hash verified.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import url2pathname

from envboot.errors import LockError
from envboot.files import write_whole
from envboot.indexes.web import UNREACHABLE
from envboot.redaction import strip_channel
from envboot.scan.installed import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from envboot.indexes.web import Web

_TAIL = 128 << 10
"""Central directory and RECORD, which is the last file, of all but the largest wheels."""
_MOST = 64 << 20
"""A longer piece is no directory of a wheel, and no RECORD."""
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelRecord:
    """A wheel's sha256, and its RECORD: hashes by path, none where it has no readable one."""

    sha256: str
    rows: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file of an index and how to get it; `sha256` and `size` where the index states them."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    sha256: str | None = None
    size: int | None = None


def read_record(file: RemoteFile, web: Web, cache: Path) -> WheelRecord:
    """Read a wheel's RECORD, once ever.

    Raises:
        LockError: the file cannot be had, or is not the one that its index promised.
    """
    kept = cache / "records" / f"{file.sha256}.json"
    if file.sha256:
        try:
            return WheelRecord(sha256=file.sha256, rows=json.loads(kept.read_bytes()))
        except (OSError, ValueError):
            pass
    try:
        with _open(file, web) as (stream, sha256):
            rows = _read(stream)
    except UNREACHABLE as error:
        # Their own texts may show the whole URL.
        seen = f"HTTP {error.code}" if isinstance(error, HTTPError) else type(error).__name__
        raise LockError(
            f"Failed to read the RECORD of `{strip_channel(file.url)}`",
            causes=(seen,),
            hint="Check the network, and try again",
        ) from None
    kept = cache / "records" / f"{sha256}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(rows).encode())
    return WheelRecord(sha256=sha256, rows=rows)


def _read(stream: IO[bytes]) -> dict[str, str]:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = [
                name
                for name in archive.namelist()
                if name.count("/") == 1 and name.endswith(".dist-info/RECORD")
            ]
            if len(names) != 1 or archive.getinfo(names[0]).file_size > _MOST:
                return {}
            return read_rows(archive.read(names[0]).decode("utf-8", "surrogateescape"))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        return {}


@contextmanager
def _open(file: RemoteFile, web: Web) -> Iterator[tuple[IO[bytes], str]]:
    """Open a wheel for reading, in ranges or whole, and tell its sha256."""
    parts = urlsplit(file.url)
    if parts.scheme == "file":
        with open(url2pathname(parts.path), "rb") as stream:
            yield stream, _hash(stream)
        return
    size = file.size if file.sha256 else None
    with tempfile.TemporaryFile() as whole:
        if file.sha256 is None or (size is None and not (size := _measure(file, web, whole))):
            if not whole.tell():
                _download(file, web, whole)
        else:
            tail = _fetch(file, web, max(0, size - _TAIL), size, whole)
            if tail is not None:
                pieces = _Pieces(file, web, size, tail)
                # zipfile seeks and reads; nothing is read ahead.
                yield pieces, file.sha256  # type: ignore[misc]  # a RawIOBase
                return
        sha256 = _hash(whole)
        if file.sha256 not in (None, sha256):
            raise LockError(
                f"Expected `{strip_channel(file.url)}` with sha256 `{file.sha256}`, "
                f"found `{sha256}`"
            )
        yield whole, sha256


def _hash(stream: IO[bytes]) -> str:
    stream.seek(0)
    total = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        total.update(chunk)
    stream.seek(0)
    return total.hexdigest()


def _download(file: RemoteFile, web: Web, whole: IO[bytes]) -> None:
    with web.open(file.url, file.authorization) as answer:
        _copy(answer, whole)


def _copy(answer: IO[bytes], whole: IO[bytes]) -> None:
    while chunk := answer.read(1 << 20):
        whole.write(chunk)


def _measure(file: RemoteFile, web: Web, whole: IO[bytes]) -> int | None:
    """Ask for one byte to learn the size; None where all came, into `whole`.

    Not all servers know a range that counts from the end.
    """
    with web.open(file.url, file.authorization, {"Range": "bytes=0-0"}) as answer:
        found = _TOTAL.match(_headers(answer).get("Content-Range", ""))
        if found:
            return int(found[1])
        _copy(answer, whole)
    return None


def _headers(answer: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = answer.headers
    return headers


def _fetch(
    file: RemoteFile, web: Web, start: int, end: int, whole: IO[bytes] | None
) -> bytes | None:
    """Return the bytes from `start` to `end`; None where all came, into `whole`."""
    if end - start > _MOST:
        raise ValueError("a piece of more than 64 MiB")
    wanted = {"Range": f"bytes={start}-{end - 1}"}
    with web.open(file.url, file.authorization, wanted) as answer:
        if _headers(answer).get("Content-Range", "").startswith(f"bytes {start}-"):
            return answer.read(end - start)
        if whole is None:
            raise ValueError("a server that knew ranges a moment ago")
        _copy(answer, whole)
    return None


class _Pieces(io.RawIOBase):
    """A remote file of which only what is read is fetched; its end is here."""

    def __init__(self, file: RemoteFile, web: Web, size: int, tail: bytes) -> None:
        self._file, self._web = file, web
        self._size, self._tail = size, tail
        self._at = 0

    def seekable(self) -> bool:
        """Say that it can be read from anywhere."""
        return True

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as `io.IOBase` has it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a place before the file's beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return that many bytes, or what is left."""
        start = min(self._at, self._size)
        end = self._size if size < 0 else min(start + size, self._size)
        first = self._size - len(self._tail)
        data = b""
        if start < min(end, first):
            data = _fetch(self._file, self._web, start, min(end, first), None) or b""
        data += self._tail[max(start - first, 0) : max(end - first, 0)]
        self._at = start + len(data)
        return data
