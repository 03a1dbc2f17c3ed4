"""Files in the directories of installed packages that no installer has put there."""

from __future__ import annotations

import csv
import json
import os

from .found import Environment

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Made by Python, by file managers and by editors.
_NOBODYS = ("__pycache__", ".DS_Store", "Thumbs.db", "desktop.ini")
_BYTE_CODE = (".pyc", ".pyo", ".swp", "~")
_METADATA = (".dist-info", ".egg-info")


def find_added(
    found: Environment,
    records: Iterable[tuple[str, bytes]],
    explained: set[str],
    *,
    is_purelib: bool,
) -> dict[str, list[str]]:
    """Return by distribution which files and directories are in its directories and not its own.

    `records` are names with their RECORD; the current directory is the one that they are relative
    to. What is at or below `explained` has no list of its files. A directory that nobody lists
    counts as one path. The distribution is the one that lists something beside it.
    """
    listed: set[str] = set()
    owners: dict[str, str] = {}
    for name, record in records:
        _collect(name, _list_record(record), listed, owners)
    if is_purelib:
        for files in found.files:
            _collect("", _list_conda(files), listed, owners)
    added: dict[str, list[str]] = {}
    tops = {path for path in owners if "/" not in path and path not in explained}
    for top in sorted(tops - {path for path in tops if path.endswith(_METADATA)}):
        for folder, path in _walk(top, listed, owners):
            added.setdefault(owners[folder], []).append(path)
    return added


def _collect(name: str, paths: Iterable[str], listed: set[str], owners: dict[str, str]) -> None:
    """Add paths, and the directories above each of them; the first owner with a name counts."""
    for path in paths:
        listed.add(path)
        folder = path.rpartition("/")[0]
        while folder and not owners.get(folder):
            owners[folder] = name
            folder = folder.rpartition("/")[0]


def _list_record(record: bytes) -> Iterator[str]:
    lines = os.fsdecode(record).splitlines()
    for line in lines:
        path = next(csv.reader([line]))[0] if line[:1] == '"' else line.partition(",")[0]
        if path and path[0] not in "./":
            yield path
        elif path[:2] == "./":
            yield path[2:]


def _list_conda(files: bytes) -> Iterator[str]:
    for path in json.loads(files):
        _, separator, rest = str(path).partition("site-packages/")
        if separator:
            yield rest


def _walk(folder: str, listed: set[str], owners: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is in a directory and below it that nobody lists, with the directory it is in."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        # A link of a package that leads nowhere, or no right to look.
        return
    for entry in entries:
        path = folder + "/" + entry.name
        if path in listed or entry.name in _NOBODYS or entry.name.endswith(_BYTE_CODE):
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield folder, path
        elif path in owners:
            yield from _walk(path, listed, owners)
        elif _has_files(path):
            yield folder, path


def _has_files(folder: str) -> bool:
    """Whether there is anything but byte code: what was uninstalled leaves that behind."""
    return any(
        not name.endswith(_BYTE_CODE) and name not in _NOBODYS
        for _, _, names in os.walk(folder)
        for name in names
    )
