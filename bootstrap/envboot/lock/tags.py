"""Which wheels a target can run, best first. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from packaging import tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envboot.platforms import MACHINES

if TYPE_CHECKING:
    from collections.abc import Collection

# The oldest glibc that manylinux knows on each platform (PEP 513, PEP 599).
_OLDEST = {"linux-64": 5, "linux-aarch64": 17}
# What `uv pip compile --python-platform` knows; a glibc between two of them takes the older.
_UV_GLIBC = (17, 28, *range(31, 41))
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@lru_cache(maxsize=8)
def rank_tags(platform: str, glibc: str, version: str) -> dict[str, int]:
    """Return every wheel tag that CPython `version` runs on the target, with its rank (0 best).

    Tags of this machine's own builds (`linux_x86_64`) rank behind every manylinux one.
    """
    arch = MACHINES[platform]
    platforms = []
    for minor in range(int(glibc.split(".")[1]), _OLDEST[platform] - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{arch}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{arch}")
    platforms.append(f"linux_{arch}")
    major, minor_text = version.split(".")[:2]
    short = f"cp{major}{minor_text}"
    python = (int(major), int(minor_text))
    ordered = [
        *tags.cpython_tags(python, abis=[short], platforms=platforms),
        *tags.compatible_tags(python, interpreter=short, platforms=platforms),
    ]
    ranks: dict[str, int] = {}
    for tag in ordered:
        ranks.setdefault(str(tag), len(ranks))
    return ranks


def name_platform(platform: str, glibc: str) -> str:
    """Return a target as `uv pip compile --python-platform` calls it.

    This is uv's own cut: it leaves out what the target cannot run.
    """
    minor = int(glibc.split(".")[1])
    known = max(known for known in _UV_GLIBC if known <= max(17, minor))
    return f"{MACHINES[platform]}-manylinux_2_{known}"


def wheel_tags(filename: str) -> frozenset[str]:
    """Return the tags in a wheel's file name, none where it is no wheel's name."""
    try:
        return frozenset(str(tag) for tag in parse_wheel_filename(filename)[3])
    except InvalidWheelFilename:
        return frozenset()


def choose_wheel(
    filenames: Collection[str], ranks: dict[str, int], installed: tuple[str, ...]
) -> str | None:
    """Choose the wheel for the target: the one whose tags are the installed one's, else the best.

    None when the target can run none of them.
    """
    wanted = frozenset(installed)
    best: tuple[bool, int, tuple[int, str]] | None = None
    chosen = None
    for filename in filenames:
        found = wheel_tags(filename)
        rank = min((ranks[tag] for tag in found if tag in ranks), default=None)
        if rank is None:
            continue
        # The highest build number wins among equals, as pip has it.
        build = parse_wheel_filename(filename)[2] or (0, "")
        key = (found != wanted, rank, (-build[0], build[1]))
        if best is None or key < best:
            best, chosen = key, filename
    return chosen
