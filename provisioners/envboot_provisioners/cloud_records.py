"""Which launches on a cloud were made from this machine: `<state folder>/<cloud>/<launch>.json`.

A record is written before anything is started and removed when all has ended: what a killed
process has started is found again by its tag, in the region or project that the record names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FRESH = 600.0
"""Seconds for which a record is kept though no instance is seen: some may be about to start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudRecord:
    """Where a launch's instances are; `account` is known once some have started."""

    launch: str
    place: str
    account: str | None = None
    age: float = 0.0


class CloudRecords:
    """The records below a folder; one that cannot be read is as good as none.

    `member` is what the cloud calls the place to look in: `region`, `project`.
    """

    def __init__(self, folder: Path, member: str) -> None:
        self._folder = folder
        self._member = member

    def write(self, launch: str, place: str, account: str | None = None) -> None:
        """Write a record anew, whole."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps({self._member: place, **({"account": account} if account else {})})
        new = self._folder / f".{launch}.{os.getpid()}"
        with new.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._path(launch))

    def find(self, launch: str) -> CloudRecord | None:
        """Return the record of a launch."""
        if not re.fullmatch(r"[\w.-]+", launch):
            return None
        return self._read(self._path(launch))

    def all(self) -> list[CloudRecord]:
        """Return every record, in the order of their launches."""
        found = (self._read(path) for path in sorted(self._folder.glob("[!.]*.json")))
        return [record for record in found if record]

    def remove(self, launch: str) -> None:
        """Remove the record of a launch; none is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._path(launch).unlink()

    def _path(self, launch: str) -> Path:
        return self._folder / f"{launch}.json"

    def _read(self, path: Path) -> CloudRecord | None:
        try:
            document = json.loads(path.read_text("utf-8"))
            age = time.time() - path.stat().st_mtime
            place, account = document[self._member], document.get("account")
            return CloudRecord(launch=path.stem, place=place, account=account, age=age)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
