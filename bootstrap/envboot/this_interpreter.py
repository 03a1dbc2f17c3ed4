"""What is in the running interpreter; it needs nothing but the standard library."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.scan.schema import Scan


def scan_here() -> Scan:
    """Scan the running interpreter, from a script or a notebook: `envboot.scan_here()`.

    It reads the environment that this very process runs in, whatever `VIRTUAL_ENV` says, and
    the loose code of everything that is on its `sys.path` now.

    Raises:
        ScanError: the interpreter cannot be started again.
    """
    from envboot.scan import scan_running

    return scan_running(sys.path, environment=dict(os.environ), folder=Path.cwd())
