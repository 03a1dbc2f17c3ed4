"""How the launches of this machine are, as their buckets tell: many at once, as far as possible."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envboot.errors import EnvbootError
from envboot.fleet.life import find_moved_end, format_time
from envboot.fleet.outcomes import Outcome
from envboot.fleet.phases import Phase, find_phase
from envboot.fleet.reports import ReportReader, Reports
from envboot.publish.launch_record import read_end, read_record
from envboot.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envboot.fleet.history import Record
    from envboot.publish.launch_record import LaunchEnd
    from envboot.session import Session
    from envboot.store.protocol import Store
    from envboot_provisioners import Instance, State

AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What the bucket of a launch has on it; nothing, where it cannot be read."""

    reports: Mapping[str, Reports] = field(default_factory=dict)
    command: bool = False
    ends: str | None = None
    end: LaunchEnd | None = None

    def find_phase(self, instance: Instance, state: State) -> Phase:
        """Return what an instance is doing."""
        outcome = Outcome(
            instance=instance, reports=self.reports.get(instance.name, Reports()), state=state
        )
        return find_phase(outcome, command=self.command, is_over=bool(self.end)).phase

    @property
    def outcome(self) -> str:
        """How the launch went, in a word; empty where that is not known."""
        if any(_has_failed(reports) for reports in self.reports.values()):
            return "failed"
        return self.end.why if self.end else ""


def read_overviews(records: Iterable[Record], session: Session) -> dict[str, Overview]:
    """Return what their buckets have on launches, by name."""
    by_store: dict[str, list[Record]] = {}
    for record in records:
        by_store.setdefault(record.store, []).append(record)
    found: dict[str, Overview] = {}
    for url, ours in by_store.items():
        found |= _read_all(url, ours, session)
    return found


def _read_all(url: str, records: list[Record], session: Session) -> dict[str, Overview]:
    try:
        with open_store(url, session) as store, ThreadPoolExecutor(AT_ONCE) as pool:
            seen = list(pool.map(lambda record: _read(store, record), records))
    except EnvbootError:
        seen = [Overview(ends=record.ends) for record in records]
    return {record.launch: overview for record, overview in zip(records, seen, strict=True)}


def _read(store: Store, record: Record) -> Overview:
    launch = record.launch
    try:
        about, end = read_record(store, launch), read_end(store, launch)
        moved = None if end else find_moved_end(store, launch)
        return Overview(
            reports=ReportReader(store, launch).read(),
            command=bool(about and about.command),
            ends=record.ends if moved is None else format_time(moved),
            end=end,
        )
    except EnvbootError:
        return Overview(ends=record.ends)


def _has_failed(reports: Reports) -> bool:
    """Whether an instance never became ready, or its command failed."""
    result, command = reports.result, reports.command
    if result and result.outcome == "failed":
        return True
    return bool(command and command.failed)
