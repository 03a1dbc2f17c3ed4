"""Whether the files of distributions are as their RECORDs say."""

from __future__ import annotations

import os

from .found import Environment

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# It is what people patch in place, and half of the `stat` calls of all files.
_CODE = (b".py", b".so", b".pth")
_END = b"all"
_FEW = 256 << 10
"""Bytes of RECORDs that one process has checked before another one would have started."""
_SHARE = 0.65
"""How much a second process checks: the first one has metadata to read meanwhile."""


def check(records: list[bytes]) -> Callable[[], list[list[bytes]]]:
    """Begin to look for code that is gone or has another size, in every RECORD.

    What it returns waits for the answer. Ten thousand files are half of a scan, so a second
    process looks at most of them.
    """
    size = sum(map(len, records))
    if size < _FEW or not hasattr(os, "fork") or (os.cpu_count() or 1) < 2:
        return lambda: [drifted(list_code(record)) for record in records]
    number, seen = 0, 0
    while seen < size * _SHARE:
        seen += len(records[number])
        number += 1
    collect = _start(records[:number])

    def finish() -> list[list[bytes]]:
        ours = [drifted(list_code(record)) for record in records[number:]]
        return collect() + ours

    return finish


def judge(found: Environment, document: dict[str, Any], wrong: list[bytes]) -> None:
    """Write into a distribution's document that code has changed, and report it."""
    document["record"] = "drifted"
    first = os.fsdecode(os.path.normpath(wrong[0]))
    others = " and %d more" % (len(wrong) - 1) if len(wrong) > 1 else ""
    found.report(document["name"], "Changed since its installation: `%s`%s" % (first, others))


def disagreement(record: bytes | None) -> tuple[bool, float]:
    """Return whether RECORD is missing, and which part of its code is not as it says."""
    if record is None:
        return True, 1.0
    rows = list_code(record)
    return False, len(drifted(rows)) / len(rows) if rows else 0.0


def list_code(record: bytes) -> list[tuple[bytes, int]]:
    """Return the code that a RECORD lists, and its sizes.

    A package's own tests are left out: a quarter of all code, and no program runs on them.
    """
    rows = []
    for row in record.splitlines():
        path, _, rest = row.partition(b",")
        if path.endswith(_CODE) and b"/tests/" not in path:
            size = rest.rpartition(b",")[2]
            if size.isdigit():
                rows.append((path, int(size)))
    return rows


def drifted(rows: list[tuple[bytes, int]]) -> list[bytes]:
    """Return the files that are gone or have another size than RECORD's rows say."""
    wrong = []
    for path, size in rows:
        try:
            if os.stat(path).st_size == size:
                continue
        except OSError:
            pass
        wrong.append(path)
    return wrong


def _start(records: list[bytes]) -> Callable[[], list[list[bytes]]]:
    """Check RECORDs in a process of their own; returns what waits for its answer."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with open(writer, "wb") as stream:
                for number, record in enumerate(records):
                    stream.writelines(b"%d %s\n" % (number, p) for p in drifted(list_code(record)))
                stream.write(_END)
        finally:
            os._exit(0)
    os.close(writer)

    def collect() -> list[list[bytes]]:
        with open(reader, "rb") as stream:
            rows = stream.read().split(b"\n")
        os.waitpid(child, 0)
        if rows.pop() != _END:  # It was killed.
            return [drifted(list_code(record)) for record in records]
        wrong: list[list[bytes]] = [[] for _ in records]
        for row in rows:
            number, _, path = row.partition(b" ")
            wrong[int(number)].append(path)
        return wrong

    return collect
