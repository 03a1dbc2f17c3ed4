"""Whether the files of distributions are as their RECORDs say."""

from __future__ import annotations

import os

from .found import Environment

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, List, Optional, Tuple

    Waiting = List[Tuple[dict[str, Any], Optional[bytes]]]
    """Documents of distributions, and the RECORDs by which they are to be judged."""

# It is what people patch in place, and half of the `stat` calls of all files.
_CODE = (b".py", b".so", b".pth")
_END = b"all"
_FEW = 256 << 10
"""Bytes of RECORDs that one process has checked before another one would have started."""


def judge(found: Environment, waiting: Waiting) -> None:
    """Write into the documents which RECORDs are `missing` or `drifted`, and report them."""
    wrong = iter(check([record for _, record in waiting if record is not None]))
    for document, record in waiting:
        if record is None:
            message = "Has no RECORD: whether its files are intact cannot be told"
            found.report(document["name"], message)
            continue
        paths = next(wrong)
        if paths:
            document["record"] = "drifted"
            first = os.fsdecode(os.path.normpath(paths[0]))
            others = " and %d more" % (len(paths) - 1) if len(paths) > 1 else ""
            found.report(
                document["name"], "Changed since its installation: `%s`%s" % (first, others)
            )


def check(records: list[bytes]) -> list[list[bytes]]:
    """Return for each RECORD the code that is gone or has another size.

    Ten thousand files are a third of a scan: a second process looks at half of them.
    """
    size = sum(map(len, records))
    if size < _FEW or not hasattr(os, "fork") or (os.cpu_count() or 1) < 2:
        return [drifted(list_code(record)) for record in records]
    half, seen = 0, 0
    while seen < size // 2:
        seen += len(records[half])
        half += 1
    collect = _start(records[half:])
    return [drifted(list_code(record)) for record in records[:half]] + collect()


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
