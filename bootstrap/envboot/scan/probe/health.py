"""Whether the files of distributions are as their RECORDs say."""

from __future__ import annotations

import os
import re
import sys

from .found import Environment

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CODE = (b".py", b".so", b".pth")
_ROW = re.compile(rb'^([^",\r\n]+),([^,\r\n]*),(\d+)\r?$', re.M)
# No program reads them as it runs, and they are a third of all files.
_UNREAD = (b".pyi", b".typed", b".h", b".hpp", b".c", b".cpp", b".pxd", b".pyx")
# Written anew by installers or moved with the environment, or an installer's own notes.
_THEIRS = (b"/bin/", b"/Scripts/", b".dist-info/")
PATCHED = 1 << 20
"""Files up to this size are read if they were written after RECORD: nobody edits larger ones in
place without changing their size, and in a copied environment every file may be newer."""
_END = b"all"
_FEW = 256 << 10
"""Bytes of RECORDs that one process has checked before another one would have started."""
_SHARE = 0.65
"""How much a second process checks: the first one has metadata to read meanwhile."""


def check(records: list[tuple[bytes, float]]) -> Callable[[], list[list[bytes]]]:
    """Begin to look for files that are gone or have other content, by RECORDs and their times.

    What it returns waits for the answer. Ten thousand files are half of a scan, so a second
    process looks at most of them.
    """
    size = sum(len(record) for record, _ in records)
    if size < _FEW or not hasattr(os, "fork") or (os.cpu_count() or 1) < 2:
        return lambda: [drifted(list_files(record), time) for record, time in records]
    number, seen = 0, 0
    while seen < size * _SHARE:
        seen += len(records[number][0])
        number += 1
    collect = _start(records[:number])

    def finish() -> list[list[bytes]]:
        ours = [drifted(list_files(record), time) for record, time in records[number:]]
        return collect() + ours

    return finish


def find_time(path: str) -> float:
    """Return when a file was written; never, if it is gone."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return float("inf")


def judge(found: Environment, document: dict[str, Any], wrong: list[bytes]) -> None:
    """Write into a distribution's document that files have changed, and report it."""
    document["record"] = "drifted"
    first = os.path.normpath(os.path.join(document["location"], os.fsdecode(wrong[0])))
    for above in (document["location"], sys.prefix):
        if first.startswith(above + os.sep):
            first = first[len(above) + 1 :]
    others = " and %d more" % (len(wrong) - 1) if len(wrong) > 1 else ""
    found.report(document["name"], "Changed since its installation: `%s`%s" % (first, others))


def disagreement(record: bytes | None) -> tuple[bool, float]:
    """Return whether RECORD is missing, and which part of its code is not as it says."""
    if record is None:
        return True, 1.0
    rows = list_code(record)
    return False, len(drifted(rows)) / len(rows) if rows else 0.0


def list_code(record: bytes) -> list[tuple[bytes, int, bytes]]:
    """Return the code that a RECORD lists."""
    return [row for row in list_files(record) if row[0].endswith(_CODE)]


def list_files(record: bytes) -> list[tuple[bytes, int, bytes]]:
    """Return the files that a RECORD lists with their sizes, and their hashes.

    A package's own tests are left out: a quarter of all files, and no program runs on them.
    """
    return [
        (path, int(size), digest)
        for path, digest, size in _ROW.findall(record)
        if b"/tests/" not in path and not path.endswith(_UNREAD)
    ]


def drifted(rows: list[tuple[bytes, int, bytes]], written: float = float("inf")) -> list[bytes]:
    """Return the files that are not as RECORD's rows say: gone, of another size or content.

    To read everything would take seconds. Installers write RECORD last, so content is compared of
    what was changed after it was `written`.
    """
    wrong = []
    for path, size, digest in rows:
        try:
            found = os.stat(path)
            if found.st_size == size and (
                found.st_mtime <= written or size > PATCHED or _has_digest(path, digest)
            ):
                continue
        except OSError:
            # It is gone, or nobody may look.
            pass
        if not any(place in path for place in _THEIRS):
            wrong.append(path)
    return wrong


def _has_digest(path: bytes, digest: bytes) -> bool:
    """Return whether a file has RECORD's hash; what another algorithm made is taken as it is."""
    import base64
    import hashlib

    algorithm, _, wanted = digest.partition(b"=")
    if algorithm != b"sha256":
        return True
    with open(path, "rb") as stream:
        found = hashlib.sha256(stream.read()).digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=") == wanted.rstrip(b"=")


def _start(records: list[tuple[bytes, float]]) -> Callable[[], list[list[bytes]]]:
    """Check RECORDs in a process of their own; returns what waits for its answer."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with open(writer, "wb") as stream:
                for number, (record, time) in enumerate(records):
                    wrong = drifted(list_files(record), time)
                    stream.writelines(b"%d %s\n" % (number, path) for path in wrong)
                stream.write(_END)
        finally:
            os._exit(0)
    os.close(writer)

    def collect() -> list[list[bytes]]:
        with open(reader, "rb") as stream:
            rows = stream.read().split(b"\n")
        os.waitpid(child, 0)
        if rows.pop() != _END:  # It was killed.
            return [drifted(list_files(record), time) for record, time in records]
        found: list[list[bytes]] = [[] for _ in records]
        for row in rows:
            number, _, path = row.partition(b" ")
            found[int(number)].append(path)
        return found

    return collect
