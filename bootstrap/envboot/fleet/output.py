"""What commands printed on their instances: every record once, in order, from the bucket.

An instance writes pieces with numbers from 1 on. So after the first look the next one is asked
for by its key, and nothing is listed again however long a command prints. Where an instance is a
directory of this machine, the piece that it is writing is read there.
"""

from __future__ import annotations

import contextlib
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from envboot.errors import StoreError
from envboot.publish.layout import IDENTITY, key_output, output_prefix
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from envboot.fleet.outcomes import Outcome
    from envboot.store.protocol import Store

HEAD = struct.Struct(">BQI")
"""What precedes the bytes of a record: stream, milliseconds since 1970, size."""
MOST = 8 << 20
"""Bytes of a piece at most."""
AT_ONCE = 4
"""Pieces of one instance that one look reads at most: whoever can write them could write more."""
LISTEN = 10
"""Seconds between two listings while it is not known under which name an instance writes."""
_KEY = re.compile(rf"reports/[^/]+/output/(?P<owner>{IDENTITY}(?P<instance>[^/]+))/\d{{9}}\.bin")


class Stream(IntEnum):
    """Where a record was written to; `AGENT` are words of envboot's own."""

    AGENT = 0
    STDOUT = 1
    STDERR = 2


_STREAMS = frozenset(Stream)


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """What a command wrote at once, and when, in milliseconds since 1970."""

    stream: Stream
    ms: int
    data: bytes


def parse_records(data: bytes, start: int = 0) -> tuple[list[OutputRecord], int]:
    """Return the whole records from byte `start` of a piece on, and the byte behind them. Pure.

    What no agent writes ends the piece.
    """
    found = []
    while start + HEAD.size <= len(data):
        stream, ms, size = HEAD.unpack_from(data, start)
        end = start + HEAD.size + size
        if stream not in _STREAMS or end > len(data):
            break
        found.append(OutputRecord(Stream(stream), ms, data[start + HEAD.size : end]))
        start = end
    return found, start


@dataclass(slots=True)
class _Place:
    """How far the output of one instance was read: piece, and byte in it.

    `owner` is the name under which it writes, empty while that is not known. `is_final` says that
    the bucket was searched for it after the command had ended.
    """

    owner: str = ""
    number: int = 1
    offset: int = 0
    is_final: bool = False


@dataclass(slots=True)
class OutputReader:
    """Reads the output of one launch; older than `since` (milliseconds since 1970) is left out."""

    store: Store
    launch: str
    since: int = 0
    _places: dict[str, _Place] = field(default_factory=dict)
    _listed: float = float("-inf")

    def read_new(self, outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, list[OutputRecord]]]:
        """Yield what each instance has written since the last call, where it has.

        Raises:
            StoreError: the bucket cannot be read; what was read before has been yielded.
        """
        for outcome in outcomes:
            self._places.setdefault(outcome.instance.name, _Place())
        if any(self._is_sought(outcome) for outcome in outcomes):
            self._list()
        with ThreadPoolExecutor(min(8, max(1, len(outcomes)))) as pool:
            found = list(pool.map(self._read_instance, outcomes))
        for outcome, (records, _) in zip(outcomes, found, strict=True):
            if records := [record for record in records if record.ms >= self.since]:
                yield outcome, records
        for _, error in found:
            if error:
                raise error

    def is_complete(self, outcome: Outcome) -> bool:
        """Whether everything has been read that the command's report promises."""
        command, place = outcome.reports.command, self._places.get(outcome.instance.name, _Place())
        return command is None or place.number > command.pieces

    def _is_sought(self, outcome: Outcome) -> bool:
        """Whether an instance's output may be in the bucket under a name that is not known yet."""
        place, command = self._places[outcome.instance.name], outcome.reports.command
        if place.owner or (outcome.instance.root and not self.since):
            return False
        if command and command.pieces and not place.is_final:
            # It has written all that there is: what this listing does not show is lost.
            place.is_final = True
            return True
        return time.monotonic() - self._listed > LISTEN

    def _list(self) -> None:
        """Find under which name each instance writes, and where to begin for `since`.

        A machine with a role on EC2 writes below its ARN, which not every client knows.
        """
        self._listed = time.monotonic()
        for stat in self.store.list(output_prefix(self.launch)):
            match = _KEY.fullmatch(stat.key)
            place = self._places.get(match["instance"]) if match else None
            if match is None or place is None:
                continue
            place.owner = match["owner"]
            if stat.modified.timestamp() * 1000 < self.since - 1000:
                # Nothing in it is younger than the object.
                place.number = max(place.number, int(stat.key[-13:-4]) + 1)

    def _read_instance(self, outcome: Outcome) -> tuple[list[OutputRecord], StoreError | None]:
        """Return the next records, and why there are no more: none of them is read again."""
        place = self._places[outcome.instance.name]
        found: list[OutputRecord] = []
        try:
            for _ in range(AT_ONCE):
                before = place.number
                found += self._read_piece(outcome, place)
                if place.number == before:
                    break
        except StoreError as error:
            return found, error
        return found, None

    def _read_piece(self, outcome: Outcome, place: _Place) -> list[OutputRecord]:
        """Read what is new in the next piece; its number rises once it is read to its end."""
        root, command = outcome.instance.root, outcome.reports.command
        for kind in ("open", "bin") if root else ():
            assert root
            data = _read_file(root / f"var/lib/envboot/output/{place.number:09d}.{kind}")
            if data is not None:
                records, place.offset = parse_records(data, place.offset)
                if kind == "bin":
                    place.number, place.offset = place.number + 1, 0
                return records
        owner = place.owner or outcome.instance.identity or outcome.instance.name
        try:
            data = self.store.read(key_output(self.launch, owner, place.number), most=MOST)
        except MalformedError:
            data = b""
        if data is not None:
            records, _ = parse_records(data, place.offset)
        elif command and place.number <= command.pieces:
            # The report follows the last piece: this one will not come.
            return [self._skip(owner, place, command.pieces)]
        else:
            return []
        place.number, place.offset = place.number + 1, 0
        return records

    def _skip(self, owner: str, place: _Place, last: int) -> OutputRecord:
        """Pass over pieces that will not come; a machine may claim to have written any number."""
        keys = (stat.key for stat in self.store.list(f"{output_prefix(self.launch)}{owner}/"))
        numbers = [int(key[-13:-4]) for key in keys if _KEY.fullmatch(key)]
        first = place.number
        place.number = min((each for each in numbers if each > first), default=last + 1)
        place.offset = 0
        text = f"pieces {first} to {place.number - 1} of the output are not in the bucket\n"
        return OutputRecord(Stream.AGENT, int(1000 * time.time()), text.encode())


def _read_file(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None
