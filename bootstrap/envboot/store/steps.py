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


def name_days(days: int | None) -> str:
    """Say how long objects stay; None is for ever."""
    if days is None:
        return "for ever"
    return f"{days} day{'' if days == 1 else 's'}"
