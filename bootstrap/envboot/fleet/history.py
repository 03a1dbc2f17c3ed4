"""What this machine remembers of its launches: where each one reports, and who made it."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from envboot.files import write_whole

KEPT = 30 * 24 * 3600
"""Seconds after which a launch is forgotten: its reports are gone from the bucket by then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One launch: its name, its provisioner's name, the URL of its bucket.

    `folder` is where it was made from and `selection` what of which environment (`Selection.kept`).
    `place` is where its instances are, as `Provisioner.place` says, and `ends` when they end by
    themselves (UTC), or `never`.
    """

    launch: str
    provisioner: str
    store: str
    folder: str | None = None
    selection: dict[str, Any] | None = None
    place: dict[str, str] | None = None
    ends: str | None = None


def make_name() -> str:
    """Return a name for a new launch: its second, UTC, and what tells it from others of that."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def write_record(state: Path, record: Record) -> None:
    """Remember a launch in the state folder, and forget those that are long over."""
    folder = state / "launches"
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*folder.glob("*.json"), *folder.glob("*.key")]:
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > KEPT:
                file.unlink()
    write_whole(folder / f"{record.launch}.json", json.dumps(asdict(record)).encode())


def read_records(state: Path) -> list[Record]:
    """Return the launches that this machine remembers, the oldest first."""
    found = []
    for file in (state / "launches").glob("*.json"):
        # Another process may be removing it just now.
        with contextlib.suppress(OSError, ValueError, TypeError):
            record = Record(**json.loads(file.read_text("utf-8")))
            found.append((file.stat().st_mtime_ns, record.launch, record))
    # By when they were written: of two in one second the names do not tell.
    return [record for *_, record in sorted(found, key=lambda item: item[:2])]


def find_folder(state: Path, launch: str) -> Path | None:
    """Return where a launch was made, None if it was made elsewhere."""
    record = next((each for each in read_records(state) if each.launch == launch), None)
    return Path(record.folder) if record and record.folder else None
