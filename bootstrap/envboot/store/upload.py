"""A file on its way into a bucket, and how much of it is there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK = 1 << 20
"""Bytes between two reports of progress."""


class Upload(io.FileIO):
    """A file on its way, whose reading counts while it is `sending`: some clients hash it first."""

    def __init__(self, path: Path, progress: Callable[[int], None] | None):
        super().__init__(path)
        self.sending = False
        self._progress = progress
        self._told = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, and tell how far it is while it is sent."""
        data = super().read(size) or b""
        at = self.tell()
        if self.sending and self._progress and (not data or abs(at - self._told) >= CHUNK):
            self._told = at
            self._progress(at)
        return data
