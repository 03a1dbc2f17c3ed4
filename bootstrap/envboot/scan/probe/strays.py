"""What lies in site-packages and was installed by nothing that kept a record."""

from __future__ import annotations

import os
import re

from .conda import lists_name
from .found import Environment, find
from .origins import read_lines

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from collections.abc import Iterable

_TOP = re.compile(rb'"?([^/,"\n]+)')
_METADATA = (".dist-info", ".egg-info", ".egg-link", ".egg", ".virtualenv", ".pyc")
# Written by virtualenv, uv, setuptools and `setup.py develop`, and listed nowhere.
_OF_TOOLS = {
    "__pycache__",
    "_virtualenv.py",
    "_virtualenv.pth",
    "distutils-precedence.pth",
    "easy-install.pth",
    "setuptools.pth",
    "README",
    "README.txt",
}


def top_names(record: bytes) -> set[str]:
    """Return the files and folders right below site-packages that a RECORD lists.

    From each name it goes on behind the last row of that name: rows nearly always stand
    together, and reading all of them takes twenty times as long. `lists_top` is exact.
    """
    names, start = set(), 0
    while start < len(record):
        row = _TOP.match(record, start)
        if row:
            names.add(os.fsdecode(row.group(1)))
            start = max(start, record.rfind(b"\n" + row.group(1) + b"/", start) + 1)
        end = record.find(b"\n", start)
        start = end + 1 if end >= 0 else len(record)
    return names


def lists_top(records: list[bytes], name: str) -> bool:
    """Return whether one of several RECORDs lists a file or folder right below site-packages."""
    place = b"\n" + os.fsencode(name)
    return any(place + b"/" in record or place + b"," in record for record in records)


def declared_names(entry: str) -> list[str]:
    """Return what `top_level.txt` says that a distribution provides, as files and folders."""
    names = [name for name in read_lines(entry + "/top_level.txt") if name]
    return names + [name + ".py" for name in names]


def guess_names(name: str) -> list[str]:
    """Return what a distribution most likely provides, where nothing says it."""
    module = name.replace("-", "_")
    return [module, module + ".py"]


def find_strays(
    found: Environment, entries: Iterable[str], explained: set[str], records: list[bytes]
) -> list[str]:
    """Return the files and directories here that belong to nothing, hidden ones aside."""
    return [
        name
        for name in entries
        if not (name.startswith((".", "~")) or name.endswith(_METADATA))
        and name not in explained
        and name not in _OF_TOOLS
        and not lists_top(records, name)
        and not lists_name(found, name)
    ]


def report_pth_files(found: Environment, folder: str, entries: list[str]) -> None:
    """Report `.pth` files that lead nowhere; they are read as Python's `site` does."""
    for entry in entries:
        if not entry.endswith(".pth") or entry.startswith("."):
            continue
        for line in read_lines(entry):
            if line and not line.startswith(("#", "import ", "import\t")):
                path = os.path.join(folder, line)
                if not os.path.exists(path):
                    found.report(path, "Is gone, but `%s` still puts it on the path" % entry)


def report_start_up(found: Environment, folder: str, strays: list[str]) -> list[str]:
    """Report strays that run code as Python starts; returns the others."""
    for name in strays:
        if name.endswith(".pth") and any(
            line.startswith(("import ", "import\t")) for line in read_lines(name)
        ):
            message = "Runs code as Python starts, and belongs to no distribution: it stays here"
            found.report(os.path.join(folder, name), message)
    return [name for name in strays if not name.endswith(".pth")]


def explain(entry: str, name: str, record: bytes | None) -> set[str]:
    """Return which files and folders a distribution accounts for, with or without RECORD."""
    if record is not None:
        return top_names(record)
    listed = find(entry + "/installed-files.txt") or b""  # Relative to the metadata folder.
    names = top_names(b"\n" + listed.replace(b"../", b""))
    return {*guess_names(name), *names, *declared_names(entry)}
