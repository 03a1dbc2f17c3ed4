"""The launches that a bucket knows: whoever made them, from wherever one may read the bucket."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from envboot.publish.launch_record import read_end, read_record
from envboot.publish.layout import IDENTITY
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from envboot.publish.launch_record import LaunchEnd, LaunchRecord
    from envboot.store.protocol import Store

_T = TypeVar("_T")

MOST = 200
"""Launches that are shown at most, the newest: each is one object to read."""
AT_ONCE = 16
_KEY = re.compile(
    r"reports/(?P<launch>[^/]+)/((?P<note>launch|ended)\.json|"
    rf"{IDENTITY}(?P<instance>[^/]+)/.+)"
)


@dataclass(kw_only=True, slots=True)
class Known:
    """A launch as the bucket has it: since when (UTC), and which instances have reported.

    `about` is what was written of it as it began, `end` why and when it was over, None while it
    is not known to be.
    """

    launch: str
    made: datetime
    is_over: bool = False
    instances: frozenset[str] = frozenset()
    about: LaunchRecord | None = None
    end: LaunchEnd | None = None


def list_launches(store: Store) -> list[Known]:
    """Return every launch that has reports in the bucket, the oldest first; reads none of them.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    made: dict[str, datetime] = {}
    over: set[str] = set()
    instances: dict[str, set[str]] = {}
    for stat in store.list("reports/"):
        found = _KEY.fullmatch(stat.key)
        if not found:
            continue
        launch = found["launch"]
        if found["note"] == "launch":
            made[launch] = stat.modified
        elif found["note"] == "ended":
            over.add(launch)
        else:
            instances.setdefault(launch, set()).add(found["instance"])
    return [
        Known(
            launch=launch,
            made=made[launch],
            is_over=launch in over,
            instances=frozenset(instances.get(launch, ())),
        )
        for launch in sorted(made, key=lambda launch: (made[launch], launch))
    ]


def read_launches(store: Store, *, past: bool = False) -> tuple[list[Known], int]:
    """Return the newest launches that are not over, with `past` also those that are.

    The second value is how many more there are.

    Raises:
        StoreError: the bucket cannot be read.
    """
    found = [known for known in list_launches(store) if past or not known.is_over]
    shown = found[-MOST:]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        abouts = pool.map(lambda known: _read(store, known.launch, read_record), shown)
        ends = pool.map(
            lambda known: _read(store, known.launch, read_end) if known.is_over else None, shown
        )
        for known, about, end in zip(shown, abouts, ends, strict=True):
            known.about, known.end = about, end
    return shown, len(found) - len(shown)


def find_holders(launches: Sequence[Known], name: str) -> list[str]:
    """Return the launches that may have an instance of that name, the newest first.

    What has reported is known by its name; a host's name has the launch's in it.
    """
    held = [each for each in launches if name in each.instances or each.launch in name]
    return [each.launch for each in reversed(held)]


def _read(store: Store, launch: str, read: Callable[[Store, str], _T | None]) -> _T | None:
    """Read a document of a launch; one that is no document of ours says nothing of it."""
    try:
        return read(store, launch)
    except MalformedError:
        return None
