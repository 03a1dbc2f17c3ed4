"""Instances that this process has just started: EC2 may not show them yet. Without any SDK."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NEW = 120.0
"""Seconds for which an instance that EC2 does not show counts as one about to run."""


class FreshInstances:
    """The ids of instances, each with the time when it was started."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def add(self, names: Iterable[str]) -> None:
        """Take these to have been started just now."""
        self._since.update(dict.fromkeys(names, time.monotonic()))

    def drop(self, names: Iterable[str]) -> None:
        """Forget instances, which have been ended."""
        for name in names:
            self._since.pop(name, None)

    def has(self, name: str) -> bool:
        """Whether an instance was started a moment ago, so that EC2 may not show it yet."""
        started = self._since.get(name)
        return started is not None and time.monotonic() - started < NEW
