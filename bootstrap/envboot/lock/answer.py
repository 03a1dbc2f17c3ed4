"""What a lock has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.lock.comparison import Row
    from envboot.lock.wheels import Wheels
    from envboot.manifest import CondaPackage, Python
    from envboot.scan.schema import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The packages of the base, and what became of each."""

    python: Python
    conda: tuple[CondaPackage, ...]
    found: Wheels
    rows: tuple[Row, ...]
    notes: tuple[Problem, ...] = ()
