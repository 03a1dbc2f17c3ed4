"""What machines need, and what they say when they are skipped for want of it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.boot.root import ensure_root
from tests.channel import CACHE

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = ("ip", "mmdebstrap", "setpriv", "systemd-nspawn", "unshare")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root file system that every machine's overlay lies over."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a boot needs root and {', '.join(NEEDED)}; missing: {missing}")
    return ensure_root(CACHE)
