"""Which launches on a cloud were made from this machine: `<state folder>/<cloud>/<launch>.json`.

A record is written before anything is started and removed when all has ended: what a killed
process has started is found again by its tag, in the region or project that the record names.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.documents import Node, parse_json
from envboot.errors import DocumentError
from envboot.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

FRESH = 600.0
"""Seconds for which a record is kept though no instance is seen: some may be about to start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudRecord:
    """Where a launch's instances are; `account` is known once some have started.

    `age` is how many seconds ago it was written.
    """

    launch: str
    place: str
    account: str | None = None
    age: float = 0.0

    def to_dict(self, member: str) -> dict[str, str]:
        """Return the document, in which `member` names the place: `region`, `project`."""
        return {member: self.place, **({"account": self.account} if self.account else {})}

    @classmethod
    def from_dict(cls, document: Any, member: str, *, launch: str, age: float) -> CloudRecord:
        """Read the document of a launch.

        Raises:
            DocumentError: it is none of ours, with the path of what is wrong in it.
        """
        node = Node(document, "")
        # What else there is a newer envboot has written: it must not hide what costs.
        place, account = node.take(member, str), node.find("account")
        return cls(launch=launch, place=place, account=account, age=age)


class CloudRecords:
    """The records below a folder; one that cannot be read is as good as none.

    `member` is what the cloud calls the place to look in: `region`, `project`.
    """

    def __init__(self, folder: Path, member: str) -> None:
        self.member = member
        self._folder = folder
        self._noted: dict[str, CloudRecord] = {}

    def write(self, launch: str, place: str, account: str | None = None) -> None:
        """Write a record anew, whole."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = CloudRecord(launch=launch, place=place, account=account)
        write_whole(self._path(launch), json.dumps(record.to_dict(self.member)).encode())

    def note(self, launch: str, place: str, account: str | None = None) -> CloudRecord:
        """Remember, in this process only, where a launch of others is."""
        self._noted[launch] = CloudRecord(launch=launch, place=place, account=account)
        return self._noted[launch]

    def find(self, launch: str) -> CloudRecord | None:
        """Return the record of a launch, of this machine or noted."""
        if not re.fullmatch(r"[\w.-]+", launch):
            return None
        return self._read(self._path(launch)) or self._noted.get(launch)

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
            document = parse_json(path.read_bytes(), "record of a launch")
            age = time.time() - path.stat().st_mtime
            return CloudRecord.from_dict(document, self.member, launch=path.stem, age=age)
        except (OSError, DocumentError):
            return None
