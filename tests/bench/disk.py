"""A fresh file system for every run, so that one run's deletions do not slow the next.

Creating files soon after deleting many costs 25-50 times more on ext4 without a journal.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = "12G"


@contextlib.contextmanager
def fresh_disk() -> Iterator[Path]:
    """Yield the folder of a new ext4 (journal, loop device); a plain folder where not root."""
    with tempfile.TemporaryDirectory(prefix="envboot-bench-") as scratch:
        folder = Path(scratch) / "disk"
        folder.mkdir()
        if os.geteuid():
            yield folder
            return
        image = Path(scratch) / "disk.img"
        subprocess.run(["truncate", "-s", SIZE, image], check=True)
        # Tables are written now, not by a kernel thread during the measurement.
        options = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
        subprocess.run(["mkfs.ext4", "-q", *options, image], check=True)
        loop = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=on", image],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        try:
            subprocess.run(["mount", loop, folder], check=True)
            try:
                yield folder
            finally:
                subprocess.run(["umount", folder], check=True)
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)
