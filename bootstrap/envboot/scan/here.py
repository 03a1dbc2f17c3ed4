"""The path of the running interpreter, which may have more on it than a fresh one."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.scan.loose import PathEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def split_path(
    path: Sequence[str], folder: Path, known: Iterable[PathEntry]
) -> tuple[list[PathEntry], list[PathEntry]]:
    """Return what a `sys.path` has before the standard library, and behind it.

    `known` is what a fresh interpreter has on its path too; `folder` is the current one. An
    entry that is not there is none: Python itself puts such on the path.
    """
    standard = standard_library()
    seen = {place.folder.resolve() for place in known}
    before: list[PathEntry] = []
    behind: list[PathEntry] = []
    passed = False
    for entry in path:
        place = folder / entry
        real = place.resolve()
        passed = passed or real in standard
        if real in standard or real in seen or not place.exists():
            continue
        if passed:
            behind.append(PathEntry(folder=place, origin="pth"))
        elif real == folder.resolve():
            before.append(PathEntry(folder=folder, origin="current"))
        else:
            before.append(PathEntry(folder=place, origin="pythonpath"))
    return before, behind


def standard_library() -> frozenset[Path]:
    """Return the folders of the standard library."""
    paths = sysconfig.get_paths()
    folders = {Path(paths[name]).resolve() for name in ("stdlib", "platstdlib")}
    folders.add(Path(os.__file__).resolve().parent)
    return frozenset(folders | {folder / "lib-dynload" for folder in folders})
