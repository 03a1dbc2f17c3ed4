"""What a command prints, on its way to the bucket: in pieces on the disk, then uploaded.

The process that runs the command writes the pieces. A child of it uploads them, so that the
command never waits for the bucket.
"""

from __future__ import annotations

import contextlib
import glob
import os
import select
import signal
import struct
import time
from typing import Any, Dict, Iterable

from . import fetch
from .host import WARNING, Host
from .wire import line

# Bytes of one piece, of all pieces that wait for the bucket, and of the report's own copy.
PIECE, SPOOL, TAIL = 4 << 20, 1 << 30, 256 << 10
# Seconds from the first byte of a piece to its end, at first and at most.
FIRST, LONGEST = 0.5, 2.0
# Seconds between two tries while the bucket refuses, and for which the last pieces are tried
# after the command has ended.
PAUSE, PATIENCE = 2.0, 600
# Seconds for the last pieces of a machine that is being stopped.
GRACE = 5
MISSING = b"%d bytes of output are missing: the bucket was out of reach, or the disk is full\n"


class Recorder:
    """Writes pieces below the state directory, and has them uploaded.

    A piece is a sequence of records: stream (0 agent, 1 stdout, 2 stderr), time in milliseconds,
    size, and the bytes. Its name is `<number>.open` until it is whole, then `<number>.bin`, and
    `<number>.sent`, emptied, once it is in the bucket. Numbers go on after a restart.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.tail = b""
        self.size = self.dropped = self.number = self.uploader = 0
        self.pause, self.due, self.last = FIRST, 0.0, 0.0
        self.folder = host.state + "/output/"
        os.makedirs(self.folder, 0o700, exist_ok=True)
        for name in sorted(os.listdir(self.folder)):
            self.number = int(name[:9])
            if name.endswith("open"):
                # An agent was killed. What it had written is whole but for the last record.
                os.rename(self.folder + name, self._path("bin"))
        if glob.glob(self.folder + "*.bin"):
            self._start(())

    def wait(self) -> Any:
        """Return in how many seconds `close` has something to do, None for never."""
        return max(0.0, self.due - time.monotonic()) if self.due else None

    def add(self, stream: int, data: bytes) -> None:
        """Write one record; those of stream 0 are words of the agent's own."""
        if not data:
            return
        if stream:
            self.tail = (self.tail + data)[-TAIL:]
        if not self.due:
            waiting = glob.glob(self.folder + "*.bin")
            if stream and sum(map(_find_size, waiting)) > SPOOL:
                self.dropped += len(data)
                return
            self._begin()
        if stream and self.dropped:
            dropped, self.dropped = self.dropped, 0
            self.add(0, MISSING % dropped)
        record = struct.pack(">BQI", stream, int(1000 * time.time()), len(data)) + data
        path = self._path("open")
        try:
            with open(path, "ab", 0) as piece:
                if piece.write(record) < len(record):
                    raise OSError
            self.size += len(record)
        except OSError:
            # The disk is full: no half of a record may stand before the next one.
            with contextlib.suppress(OSError):
                os.truncate(path, self.size)
            self.dropped += len(data)

    def close(self, pipes: Iterable[int]) -> None:
        """End a piece that is due, unless the bucket still lacks the one before.

        While that is so a longer piece will do, so that there are fewer of them.
        """
        if not self.due or (time.monotonic() < self.due and self.size < PIECE):
            return
        before = "%s%09d.bin" % (self.folder, self.number - 1)
        if self.size < PIECE and os.path.exists(before):
            self.due = time.monotonic() + FIRST / 5
        else:
            self._close(pipes)

    def end(self) -> Dict[str, Any]:
        """Wait until everything is in the bucket, or cannot be; returns what the report says."""
        if self.dropped:
            self.add(0, MISSING % self.dropped)
        if self.due:
            self._close(())
        if self.uploader:
            os.close(self.news)
            os.waitpid(self.uploader, 0)
        return {"pieces": self.number, "output": self.tail.decode(errors="replace")}

    def _path(self, kind: str) -> str:
        return "%s%09d.%s" % (self.folder, self.number, kind)

    def _begin(self) -> None:
        now = time.monotonic()
        if now - self.last > LONGEST:
            # It was quiet: whatever comes now is news.
            self.pause = FIRST
        self.number, self.size = self.number + 1, 0
        self.due = self.last = now + self.pause
        self.pause = min(LONGEST, 1.5 * self.pause)

    def _close(self, pipes: Iterable[int]) -> None:
        self.due = 0.0
        with contextlib.suppress(OSError):
            os.rename(self._path("open"), self._path("bin"))
        if not self.uploader:
            self._start(pipes)
        with contextlib.suppress(OSError):
            os.write(self.news, b"+")

    def _start(self, pipes: Iterable[int]) -> None:
        """Start the process that uploads, until we close our end of `news`, or are killed."""
        reader, self.news = os.pipe()
        os.set_blocking(self.news, False)
        self.uploader = os.fork()
        if self.uploader:
            os.close(reader)
            return
        try:
            for pipe in (self.news, *pipes):
                os.close(pipe)
            _upload_all(self.host, self.folder, reader)
        finally:
            os._exit(0)


def _find_size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        # It was uploaded just now.
        return 0


def _upload_all(host: Host, folder: str, reader: int) -> None:
    """Upload pieces until the other end of `reader` is closed: by the writer, or by its death."""
    signal.signal(signal.SIGTERM, _hurry)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    trouble, end = "", 0.0
    while True:
        trouble = _upload(host, folder, trouble)
        if end and (not trouble or time.monotonic() > end):
            return
        if trouble:
            time.sleep(PAUSE)
        ready = not end and select.select([reader], [], [], 0 if trouble else None)[0]
        if ready and not os.read(reader, 4096):
            end = time.monotonic() + PATIENCE
            for path in glob.glob(folder + "*.open"):
                os.rename(path, path[:-4] + "bin")


def _upload(host: Host, folder: str, trouble: str) -> str:
    """Upload every whole piece in order; returns why one could not be, or nothing."""
    for path in sorted(glob.glob(folder + "*.bin")):
        with open(path, "rb") as stream:
            data = stream.read()
        key = "output/%s/%s.bin" % (host.instance, os.path.basename(path)[:9])
        try:
            fetch.post(host.grants["report"], key, data)
        except Exception as error:
            # With a role nothing is replaced: it was uploaded, and the answer was lost.
            if getattr(error, "reason", "") != "exists":
                text = line(error)
                if text != trouble:
                    host.journal("stage", "output: " + text, WARNING, stage="run", error=text)
                return text
        sent = path[:-3] + "sent"
        # Only its number is needed from now on, by an agent that is started again.
        os.rename(path, sent)
        os.truncate(sent, 0)
        for old in glob.glob(folder + "*.sent"):
            if old != sent:
                os.unlink(old)
    return ""


def _hurry(*_: Any) -> None:
    """The machine is being stopped: the rest is uploaded soon, or never."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GRACE)
