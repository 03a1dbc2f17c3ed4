"""Whether files are still as they were: what is packed must be what its digest was made of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from envboot.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TRIES = 3
"""How often files that are being written are read again before they are refused."""


def stamp(paths: Iterable[str | Path]) -> dict[str, tuple[int, ...]]:
    """Return what changes with every write to a file, for each path; nothing for a missing one.

    Nobody can set `st_ctime`, so that equal stamps mean equal content.
    """
    return {os.fspath(path): _stamp(path) for path in paths}


def _stamp(path: str | Path) -> tuple[int, ...]:
    try:
        info = os.stat(path)  # noqa: PTH116
    except OSError:
        return ()
    return (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def refuse_changing(what: str, before: dict[str, tuple[int, ...]]) -> LayerError:
    """Return the error for files that were different each time they were read."""
    changed = [path for path, value in stamp(before).items() if value != before[path]]
    return LayerError(
        f"Cannot pack {what}: its files change while they are read",
        causes=tuple(f"`{path}`" for path in changed[:10]),
        hint="Try again when they are written, or leave them out with `exclude` in "
        "`[tool.envboot]`",
    )
