"""Prints what commands wrote: stdout to stdout, stderr to stderr, in order, as it was or labelled.

A terminal gets what it would obey spelled out, unless it is to be raw. A pipe or a file gets the
bytes: whoever redirects a command's output wants what the command wrote.
"""

from __future__ import annotations

import base64
import codecs
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from envboot.cli import console
from envboot.fleet.output import Stream
from envboot.text import show_in_json

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.output import OutputRecord

_UTF_8 = codecs.getincrementaldecoder("utf-8")
LONGEST = 1 << 20
"""Bytes of a line at most, where lines are put together; a longer one is printed in parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What of the output is printed, and how. Without `stream` both are."""

    raw: bool = False
    stream: Stream | None = None
    grep: re.Pattern[bytes] | None = None
    timestamps: bool = False
    as_json: bool = False

    @property
    def by_line(self) -> bool:
        """Whether only whole lines can be printed."""
        return bool(self.grep or self.timestamps or self.as_json)


@dataclass(slots=True)
class Printer:
    """Remembers of each instance the line, or the character, that is not whole yet."""

    view: View = field(default_factory=View)
    is_line_open: bool = False
    _held: dict[tuple[str, Stream], bytes] = field(default_factory=dict)
    _decoders: dict[tuple[str, Stream], codecs.IncrementalDecoder] = field(default_factory=dict)

    def print_records(self, outcome: Outcome, records: list[OutputRecord], label: str) -> None:
        """Print what an instance has written since the last call; a label precedes each line."""
        if not label and not self.view.by_line:
            for record in records:
                if self._is_shown(record.stream):
                    self._write(outcome.instance.name, record.stream, record.data)
            return
        for record in records:
            if self._is_shown(record.stream):
                for line in self._split(outcome.instance.name, record):
                    self._print_line(outcome, record, label, line)

    def finish(self, outcome: Outcome, label: str) -> None:
        """Print the last lines of an instance, whose command has ended without ending them."""
        from envboot.fleet.output import OutputRecord

        name = outcome.instance.name
        for stream in Stream:
            if rest := self._held.pop((name, stream), b""):
                ms = int(1000 * datetime.now(timezone.utc).timestamp())
                self._print_line(outcome, OutputRecord(stream, ms, b""), label, rest)
            decoder = self._decoders.pop((name, stream), None)
            if decoder and (text := decoder.decode(b"", final=True)):
                self._say(text, stream)

    def _is_shown(self, stream: Stream) -> bool:
        return self.view.stream in (None, stream) or stream is Stream.AGENT

    def _split(self, name: str, record: OutputRecord) -> Iterator[bytes]:
        """Yield the lines that are whole by now, without their ends."""
        key = name, record.stream
        *lines, rest = (self._held.pop(key, b"") + record.data).split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        if rest:
            self._held[key] = rest
        yield from lines

    def _print_line(self, outcome: Outcome, record: OutputRecord, label: str, line: bytes) -> None:
        if self.view.grep and not self.view.grep.search(line):
            return
        if self.view.as_json:
            console.say(self._to_json(outcome, record, line))
            return
        time = f"{_show_time(record.ms)} " if self.view.timestamps else ""
        self._write("", record.stream, f"{time}{label}".encode() + line + b"\n")

    def _to_json(self, outcome: Outcome, record: OutputRecord, line: bytes) -> str:
        """Return one line of JSON; what is no UTF-8 is in it as base64."""
        document = {
            "time": _show_time(record.ms),
            "instance": outcome.instance.name,
            "rank": outcome.rank,
            "stream": record.stream.name.lower(),
        }
        try:
            document["text"] = line.decode()
        except UnicodeDecodeError:
            document["base64"] = base64.b64encode(line).decode()
        return show_in_json(json.dumps(document, ensure_ascii=False))

    def _write(self, name: str, stream: Stream, data: bytes) -> None:
        if stream is Stream.AGENT:
            console.say(f"envboot: {data.decode(errors='replace')}", err=True, nl=False)
            return
        err = stream is Stream.STDERR
        if self.view.raw or not console.is_terminal(err=err):
            console.write(data, err=err)
            if console.is_terminal(err=err):
                self.is_line_open = not data.endswith(b"\n")
        elif name:
            key = name, stream
            if key not in self._decoders:
                self._decoders[key] = _UTF_8(errors="backslashreplace")
            # A character that a record has cut in two waits for its rest.
            self._say(self._decoders[key].decode(data), stream)
        else:
            self._say(data.decode(errors="backslashreplace"), stream)

    def _say(self, text: str, stream: Stream) -> None:
        # A bar that is drawn over and over becomes a line each time.
        shown = text.replace("\r\n", "\n").replace("\r", "\n")
        if shown:
            console.say(shown, err=stream is Stream.STDERR, nl=False)
            self.is_line_open = not shown.endswith("\n")


def _show_time(ms: int) -> str:
    """Return a time in UTC with milliseconds; a machine may have written any number."""
    try:
        time = datetime.fromtimestamp(ms / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return "?"
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
