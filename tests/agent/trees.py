"""Folders as values: what a test makes, and what it finds after a round trip.

Names that are no text are written with surrogate escapes, as `os.fsdecode` gives them.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

Snapshot = dict[str, tuple[str, int, str]]


def snapshot(folder: Path) -> Snapshot:
    """Map every path below a folder to its kind, mode, and content's hash or link target."""
    found: Snapshot = {}
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in folders + names):
            mode = path.lstat().st_mode & 0o7777
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = "link", 0, str(path.readlink())
            elif path.is_dir():
                found[key] = "folder", mode, ""
            else:
                found[key] = "file", mode, hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def write(folder: Path, path: str, data: bytes = b"", mode: int = 0o644) -> None:
    """Write one file with exactly this mode; folders above it that are missing are made 0755."""
    file = folder / path
    _make_missing(file.parent)
    file.write_bytes(data)
    file.chmod(mode)


def make_folder(folder: Path, path: str, mode: int) -> None:
    """Make one folder with exactly this mode; folders above it that are missing are made 0755."""
    _make_missing(folder / path)
    (folder / path).chmod(mode)


def _make_missing(folder: Path) -> None:
    if not folder.is_dir():
        _make_missing(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def copy_in_disorder(tree: Path, target: Path) -> None:
    """Make the same tree entry by entry in another order, with other times."""
    entries = list(snapshot(tree).items())
    random.Random(1).shuffle(entries)
    for name, (kind, _, link) in entries:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(link)
        elif kind == "folder":
            path.mkdir(exist_ok=True)
        else:
            shutil.copyfile(tree / name, path)
            os.utime(path, (1, 1))
    for name, (kind, mode, _) in entries:
        if kind != "link":
            (target / name).chmod(mode)
