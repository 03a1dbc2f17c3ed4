"""What setting a bucket up has to tell, whichever cloud it is in. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One setting of the bucket: what became of it, and what it is now or should be."""

    name: str
    outcome: Literal["right", "changed", "would change", "not supported", "skipped", "failed"]
    detail: str
    hint: str | None = None
