"""Read what is in an environment, from inside its own interpreter and leaving nothing there."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from envboot.scan.discovery import find_python
from envboot.scan.running import Probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from envboot.scan.schema import Scan


def scan(
    python: str | None = None,
    *,
    environment: Mapping[str, str],
    folder: Path,
    loose: bool = True,
    own: bool = False,
) -> Scan:
    """Read the environment of `python`: a program, its name on PATH, or an environment's folder.

    Without one, it is the environment that `find_python` finds, whose problems say what else could
    have been meant; with `own` it may be one that was made for envboot alone. `environment` are
    the variables of the process. `folder` is the current one, whose code can be imported; without
    `loose` that is left out. No URL of the result carries credentials.

    Raises:
        ScanError: there is no such interpreter, it is older than Python 3.8, or it failed.
    """
    choice = find_python(python, environment, folder, own=own)
    probe = Probe(choice.executable, environment, folder)
    from envboot.scan.outside import complete

    found = complete(probe.read(), environment=environment, folder=folder, loose=loose)
    return replace(found, problems=(*choice.notes, *found.problems)) if choice.notes else found


def scan_running(path: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> Scan:
    """Read the running interpreter's own environment, whichever one is active.

    `path` is its `sys.path`: what has been put on it counts as loose code. `folder` is the
    current one.

    Raises:
        ScanError: the interpreter cannot be started again.
    """
    probe = Probe(sys.executable, environment, folder)
    from envboot.scan.outside import complete

    return complete(probe.read(), environment=environment, folder=folder, path=path)
