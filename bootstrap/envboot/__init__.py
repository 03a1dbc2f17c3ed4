"""Capture a Python environment and make it appear, exactly, on fresh Linux machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.cluster import Cluster as Cluster
    from envboot.scan.schema import Scan

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `Cluster` when it is asked for: Dask is not for everyone.

    Raises:
        ImportError: what it is made of is not installed.
    """
    if name != "Cluster":
        raise AttributeError(f"module `envboot` has no attribute `{name}`")
    try:
        from envboot.cluster import Cluster
    except ModuleNotFoundError as error:
        if error.name not in ("cryptography", "dask", "distributed", "tornado"):
            raise
        raise ImportError(
            f"`envboot.Cluster` needs `{error.name}`: pip install 'envboot[dask]'"
        ) from error
    return Cluster


def scan_here() -> Scan:
    """Scan the running interpreter, from a script or a notebook: `envboot.scan_here()`.

    It reads the environment that this very process runs in, whatever `VIRTUAL_ENV` says, and
    the loose code of everything that is on its `sys.path` now. Raises `ScanError`.
    """
    import os
    import sys
    from pathlib import Path

    from envboot.scan import scan_running

    return scan_running(sys.path, environment=os.environ, folder=Path.cwd())
