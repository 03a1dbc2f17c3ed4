"""Which of several files of one version is the installed one, by its RECORD.

A version on two indexes may have other content on each: a package of one's own beside a public one
of the same name. An installed package does not record where it came from, but the hashes of its
files, and so does the wheel (PEP 376, PEP 427).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from envboot.errors import name_some
from envboot.indexes.configuration import PYPI_FILES
from envboot.lock.tags import choose_wheel
from envboot.redaction import strip_channel
from envboot.scan.installed import Replaced, find_installed, find_recorded_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from envboot.indexes import PrivateWheel
    from envboot.lock.index_lookup import Lookup
    from envboot.scan.installed import Installed
    from envboot.scan.schema import Distribution

_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Disputed:
    """A distribution that indexes have with other content than the installed one's."""

    name: str
    message: str


Verdict: TypeAlias = "tuple[PrivateWheel, Replaced | None] | Disputed"


def agree(
    chosen: Sequence[tuple[Distribution, PrivateWheel]], lookup: Lookup, cache: Path
) -> list[Verdict]:
    """Compare each chosen wheel with what is installed, and look for another where they differ.

    Where one index is asked, and it is PyPI, nothing can be in doubt and nothing is read.

    Raises:
        LockError: a RECORD or an index cannot be read.
    """
    several = len(lookup.indexes.ordinary) > 1

    def judge(pair: tuple[Distribution, PrivateWheel]) -> Verdict:
        item, wheel = pair
        # What is added has no place here yet.
        is_open = several or urlsplit(wheel.url).hostname != PYPI_FILES
        if not (is_open and item.location and wheel.file.endswith(".whl")):
            return wheel, None
        return _Judge(lookup, cache, item).judge(wheel)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(judge, chosen))


class _Judge:
    """Judges the wheels of one distribution."""

    def __init__(self, lookup: Lookup, cache: Path, item: Distribution) -> None:
        self._lookup = lookup
        self._cache = cache
        self._item = item
        self._installed: Installed | None = find_installed(item)

    def judge(self, wheel: PrivateWheel) -> Verdict:
        """Return the installed file, the given one with how it differs, or a dispute."""
        recorded = find_recorded_hash(self._item)
        if recorded and recorded == wheel.sha256:
            return wheel, None
        differing = self._compare(wheel)
        if differing == "":
            return wheel, None
        rivals = [] if self._item.direct_url else self._list_rivals(wheel)
        for rival in rivals:
            if self._compare(rival) == "":
                return rival, None
        if rivals:
            return self._dispute([wheel, *rivals], differing)
        if recorded:
            reason = f"`{wheel.file}` has been replaced since its installation"
            differing = f"{reason}; {differing}" if differing else reason
        if differing is None:
            return wheel, None
        return wheel, Replaced(name=self._item.name, version=self._item.version, reason=differing)

    def _compare(self, wheel: PrivateWheel) -> str | None:
        """Say how a wheel differs, "" where it does not, None where that cannot be told."""
        if self._installed is None:
            return None
        rows = self._lookup.indexes.read_record(wheel, self._cache).rows
        if not any(rows.values()):
            return None
        found = self._installed.compare_record(rows)
        return found.describe(found.paths) if found.paths else ""

    def _list_rivals(self, wheel: PrivateWheel) -> list[PrivateWheel]:
        """Return files with other content that indexes have for the target, each one's best."""
        indexes = self._lookup.indexes
        rivals: dict[str, PrivateWheel] = {}
        # A file of this machine comes without its hash.
        known = wheel.sha256 or indexes.read_record(wheel, self._cache).sha256
        for index in indexes.ordinary:
            files = {
                each.file: each
                for each in indexes.list_wheels(self._item.name, [index])
                if _is_same(each.version, self._item.version)
            }
            name = choose_wheel(files, self._lookup.ranks, self._item.tags)
            if name is None:
                continue
            found = files[name]
            # Pages need not state hashes.
            sha256 = found.sha256 or indexes.read_record(found, self._cache).sha256
            if sha256 != known:
                rival = replace(wheel, file=name, url=found.url, sha256=sha256, size=found.size)
                rivals.setdefault(sha256, rival)
        return list(rivals.values())

    def _dispute(self, wheels: Sequence[PrivateWheel], differing: str | None) -> Disputed:
        places = [strip_channel(wheel.url) for wheel in wheels]
        why = "none of it is the installed one" if differing else "nothing tells which is installed"
        return Disputed(
            name=f"{self._item.name}=={self._item.version}",
            message=f"Several indexes have it with other content, and {why}: {name_some(places)}",
        )


def _is_same(version: Version, text: str) -> bool:
    try:
        return version == Version(text)
    except InvalidVersion:
        return False
