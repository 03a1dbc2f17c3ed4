"""Cache directories in which the agent is shrunk already: that takes 1 to 3 s of CPU."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.channel import CACHE

if TYPE_CHECKING:
    from pathlib import Path

SHRUNK = CACHE / "agent"


def make_cache(folder: Path) -> str:
    """Make a cache directory, empty but for the shrunk agent, which all of them share.

    The agent is kept there under a digest of its sources; whoever needs it first shrinks it.
    """
    SHRUNK.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "agent").symlink_to(SHRUNK)
    return str(folder)
