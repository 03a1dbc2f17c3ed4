"""Read what is in an environment, from inside its own interpreter and leaving nothing there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from envboot.scan.running import Probe, find_python

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
) -> Scan:
    """Read the environment of `python`: a program, its name on PATH, or an environment's folder.

    Without one, it is the active environment of `environment` (the variables of the process:
    VIRTUAL_ENV, then CONDA_PREFIX), else the running interpreter. `folder` is the current one,
    whose code can be imported; without `loose` that is left out. No URL of the result carries
    credentials.

    Raises:
        ScanError: there is no such interpreter, it is older than Python 3.8, or it failed.
    """
    probe = Probe(find_python(python, environment, folder), environment, folder)
    from envboot.scan.outside import complete

    return complete(probe.read(), environment=environment, folder=folder, loose=loose)


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
