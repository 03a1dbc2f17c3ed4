"""What becomes of each package on the way to the machines, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One package: its version `here` and `there` (None: not there), and why it is not the same.

    `patch` says that only what comes after `major.minor` differs, `added` that it is not here.
    """

    name: str
    source: Literal["conda", "pypi", "layer", "added"]
    here: str | None = None
    there: str | None = None
    status: Literal["same", "patch", "replaced", "dropped", "added"]
    reason: str | None = None
