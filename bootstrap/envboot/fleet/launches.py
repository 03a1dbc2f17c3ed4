"""The launches that a bucket knows: whoever made them, from wherever one may read the bucket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from envboot.fleet.reports import KEY
from envboot.publish.launch_record import key_end, key_record, read_end, read_record
from envboot.publish.layout import events_prefix
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from envboot.publish.launch_record import LaunchEnd, LaunchRecord
    from envboot.store.protocol import Store

_T = TypeVar("_T")

MOST = 200
"""Launches that are shown at most, the newest: each is one object to read."""
AT_ONCE = 16


@dataclass(kw_only=True, slots=True)
class Known:
    """A launch as the bucket has it, and since when (UTC).

    `about` is what was written of it as it began, `end` why and when it was over, None while it
    is not known to be. `instances` have reported, where that was asked for.
    """

    launch: str
    made: datetime
    is_over: bool = False
    instances: frozenset[str] = frozenset()
    about: LaunchRecord | None = None
    end: LaunchEnd | None = None


def list_launches(store: Store) -> list[Known]:
    """Return every launch that the bucket knows, the oldest first; reads no document.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    names = store.list_folder("reports/").folders
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda name: _list_launch(store, name), names))
    return sorted([known for known in found if known], key=lambda known: (known.made, known.launch))


def _list_launch(store: Store, launch: str) -> Known | None:
    below = store.list_folder(f"reports/{launch}/")
    made = {stat.key: stat.modified for stat in below.objects}
    if key_record(launch) not in made:
        return None
    return Known(launch=launch, made=made[key_record(launch)], is_over=key_end(launch) in made)


def read_launches(
    store: Store, *, past: bool = False, reported: bool = False
) -> tuple[list[Known], int]:
    """Return the newest launches that are not over, with `past` also those that are.

    With `reported` each is listed once more, for its instances. The second value is how many more
    launches there are.

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
        names = pool.map(
            lambda known: list_reported(store, known.launch) if reported else frozenset(), shown
        )
        for known, about, end, instances in zip(shown, abouts, ends, names, strict=True):
            known.about, known.end, known.instances = about, end, instances
    return shown, len(found) - len(shown)


def list_reported(store: Store, launch: str) -> frozenset[str]:
    """Return the names of a launch's instances that have reported.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    matches = (KEY.fullmatch(stat.key) for stat in store.list(events_prefix(launch)))
    return frozenset(match["instance"] for match in matches if match)


def find_holders(store: Store, name: str) -> list[str]:
    """Return the launches, not over, that may have an instance of that name, the newest first.

    What has reported is known by its name; a host's name has the launch's in it.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    launches = [known.launch for known in list_launches(store) if not known.is_over]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        held = pool.map(
            lambda launch: launch in name or name in list_reported(store, launch), launches
        )
        return [launch for launch, is_held in zip(launches, held, strict=True) if is_held][::-1]


def _read(store: Store, launch: str, read: Callable[[Store, str], _T | None]) -> _T | None:
    """Read a document of a launch; one that is no document of ours says nothing of it."""
    try:
        return read(store, launch)
    except MalformedError:
        return None
