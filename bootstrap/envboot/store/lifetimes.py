"""For how long a bucket of any kind keeps what is in its directories. Pure."""

from __future__ import annotations

from envboot.text import count

SHORT_LIVED = {"launches": 8, "layers": 1, "locks": 1, "reports": 30}
"""The days after which objects of a directory expire, unless a bucket is set up otherwise.

A launch lasts seven days at most; what it made and said can be fetched for a month.
"""
BASE_DAYS = 90
LAYER_DAYS = 1


def list_lives(*, base_days: int | None, layer_days: int) -> dict[str, int | None]:
    """Return the days for each directory below the root; None is forever."""
    lives: dict[str, int | None] = {**SHORT_LIVED}
    return lives | {"layers": layer_days, "base": base_days}


def name_days(days: int | None) -> str:
    """Say how long objects stay; None is for ever."""
    if days is None:
        return "for ever"
    return count(days, "day")


def name_lives(lives: dict[str, int | None]) -> str:
    """Say how long the objects of each directory stay."""
    return ", ".join(f"`{folder}/` {name_days(days)}" for folder, days in lives.items())
