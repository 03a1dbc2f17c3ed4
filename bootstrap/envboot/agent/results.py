"""What the command has made: into the bucket while it runs, and when it has ended.

Content travels in blobs that are named by their sha256. An index names each file and the blobs
that it is made of, and is written after them: whatever an index names is in the bucket. A process
of the command's user finds and reads the files, because root would follow a link that the command
has left; root uploads, because only root may use the bucket.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import select
import signal
import struct
import time
from typing import Any, BinaryIO, Dict, Iterator, Set, Tuple

from . import fetch, run, wire
from .host import WARNING, Host, write_json
from .made import Entry, Reader
from .wire import AgentError

# Uploads that run at once.
AT_ONCE = 4
# Bytes of an index, compressed: less than a form takes.
MOST = 8_000_000
# Bytes that the user's process may send as one message.
LONGEST_MESSAGE = 1 << 28
# Seconds between two looks: at first and at most. A look that takes long is repeated less often.
FIRST, LONGEST, SLOWEST, SHARE = 2.0, 60.0, 600.0, 10
# Seconds for which a bucket out of reach is tried again when the command has ended.
PATIENCE = 300


def main(host: Host) -> int:
    """Run the command, and bring what it makes into the bucket; returns the command's code."""
    host.read_grants()
    if "output" not in host.read_json("config") or "report" not in host.grants:
        return run.main(host)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        _exit_after(lambda: Results(host, reader).serve())
    os.close(reader)
    try:
        return run.main(host)
    finally:
        # The other side takes its last look when the last writer is gone, however that went.
        os.close(writer)
        if os.waitpid(pid, 0)[1]:
            host.report("results", {"error": "the process that uploads results was killed"})
            host.wait_for_reports()


def _exit_after(work: Any) -> None:
    """Do the work of a forked process and end it, whatever happens."""
    code = 1
    try:
        work()
        code = 0
    except Exception as error:
        os.write(2, ("envboot: results: %s\n" % wire.line(error)).encode())
    finally:
        os._exit(code)


class Results:
    """Looks for files that are new or have changed, and uploads them."""

    def __init__(self, host: Host, ended: int) -> None:
        self.host = host
        host.children = []
        host.config = host.read_json("config")
        self.order: Dict[str, Any] = host.config["output"]
        self.limit = self.order.get("limit", 0)
        self.ended = ended
        self.stopped = False
        self.wakes, self.wake = os.pipe()
        os.set_blocking(self.wakes, False)
        self.errors, self.error = os.pipe()
        os.set_blocking(self.errors, False)
        self.uploads: Dict[int, str] = {}
        # Bytes that have gone up, those of files that have changed since included.
        self.total = 0
        kept = host.read_json("results")
        if kept.get("launch") != host.grants["launch"]:
            kept = {}
        self.number: int = kept.get("number", 0)
        self.known: Dict[str, Entry] = kept.get("known", {})
        # Files that are as they were sent.
        self.same: Dict[str, Any] = kept.get("same", {})
        self.left: Dict[str, Any] = {}
        self.blobs: Set[str] = {e[0] for entry in self.known.values() for e in entry[4]}

    def serve(self) -> None:
        """Look until the command has ended, then once more, and report."""
        signal.signal(signal.SIGTERM, self._stop)
        os.nice(10)
        pause = FIRST
        while not self._is_over(pause):
            start = time.monotonic()
            # What is written over and over must not cost without end.
            if not self.limit or self.total <= self.limit:
                try:
                    self.look(final=False)
                except AgentError as error:
                    self.host.journal("stage", "results: %s" % error, WARNING, stage="run")
            took = time.monotonic() - start
            pause = min(SLOWEST, max(min(LONGEST, 1.5 * pause), SHARE * took))
        self._finish()

    def _stop(self, *_: Any) -> None:
        # The machine is told to stop: one look more, as the others of its group end now.
        self.stopped = True
        fetch.TRIES = 2
        os.write(self.wake, b"!")

    def _is_over(self, seconds: float) -> bool:
        return self.stopped or bool(select.select([self.ended, self.wakes], [], [], seconds)[0])

    def _finish(self) -> None:
        end = time.monotonic() + PATIENCE
        document: Dict[str, Any] = {}
        while True:
            try:
                self.look(final=True)
                while self.stopped and time.monotonic() < end - PATIENCE + 5:
                    # The command may be writing its last lines.
                    time.sleep(0.2)
                    if not self.look(final=True):
                        break
                break
            except AgentError as error:
                document["error"] = wire.line(error)
                is_final = error.reason in ("forbidden", "expired")
                if is_final or self.stopped or time.monotonic() > end:
                    self.host.journal("stage", "results: %s" % error, WARNING, stage="run")
                    break
                time.sleep(5)
            document.pop("error", None)
        document["number"], document["files"] = self.number, len(self.known)
        document["bytes"] = sum(entry[0] for entry in self.known.values())
        document["left"] = self.left
        self.host.report("results", document)
        self.host.wait_for_reports()

    def look(self, final: bool) -> bool:
        """Upload what is new; returns whether there was anything.

        Raises:
            AgentError: something did not go up, or cannot be read at all.
        """
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            _exit_after(lambda: Reader(self, final, writer).read())
        os.close(writer)
        before = self.number
        try:
            with os.fdopen(reader, "rb") as stream:
                for kind, data in _receive(stream):
                    if kind == b"B":
                        self._upload(data)
                    else:
                        self._take(wire.parse(data))
            self._wait_for_uploads()
        finally:
            # Nothing that fails leaves children, or forgets what has arrived.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while self.uploads:
                self._reap()
        return self.number > before

    def _upload(self, data: bytes) -> None:
        """Upload a blob, in a process of its own: connections are not shared by processes."""
        name = hashlib.sha256(data).hexdigest()
        if name in self.blobs or name in self.uploads.values():
            return
        if len(self.uploads) >= AT_ONCE:
            self._wait_for_uploads(AT_ONCE - 1)
        pid = os.fork()
        if not pid:
            _exit_after(lambda: self._post("blobs/" + name, data))
        self.uploads[pid] = name
        self.total += len(data)

    def _post(self, name: str, data: bytes) -> None:
        host = self.host
        try:
            fetch.post(host.grants["report"], "results/%s/%s" % (host.instance, name), data)
        except AgentError as error:
            # Less than PIPE_BUF: two of them never mix.
            os.write(self.error, json.dumps([error.reason, wire.line(error)[:300]]).encode())
            raise

    def _wait_for_uploads(self, but: int = 0) -> None:
        while len(self.uploads) > but:
            if not self._reap():
                try:
                    found = json.JSONDecoder().raw_decode(os.read(self.errors, 1 << 16).decode())
                    reason, text = found[0]
                except (OSError, ValueError):
                    reason, text = "", "a process that uploads was killed"
                failure = AgentError(text)
                failure.reason = reason
                raise failure

    def _reap(self) -> bool:
        """Wait for the oldest upload; returns whether the bucket has its blob."""
        pid = next(iter(self.uploads))
        status = os.waitpid(pid, 0)[1]
        name = self.uploads.pop(pid)
        if not status:
            self.blobs.add(name)
        return not status

    def _take(self, found: Dict[str, Any]) -> None:
        """Write an index of what was found, unless it would say what the last one says."""
        self._wait_for_uploads()
        files: Dict[str, Entry] = found["files"]
        named = {extent[0] for entry in files.values() for extent in entry[4]}
        if not named <= self.blobs:
            raise AgentError("the process that reads results was tampered with")
        is_new = {path: files[path][:5] for path in files} != {
            path: self.known[path][:5] for path in self.known
        }
        if is_new or (self.number and found["left"] != self.left):
            # First: a number is never given twice, wherever this is killed.
            self.number += 1
            self._keep()
            self._post("%09d.json.gz" % self.number, self._compose(files, found["left"]))
        # Only now: what has not gone up is news at the next look, too.
        self.known, self.same, self.left = files, found["same"], found["left"]
        self._keep()

    def _keep(self) -> None:
        document = {"launch": self.host.grants["launch"], "number": self.number}
        document.update({"known": self.known, "same": self.same})
        write_json(self.host.state + "/results.json", document, 0o600)

    def _compose(self, found: Dict[str, Entry], left: Dict[str, Any]) -> bytes:
        blobs: Dict[str, int] = {}
        files = []
        for path, entry in found.items():
            extents = [(blobs.setdefault(e[0], len(blobs)), e[1], e[2]) for e in entry[4]]
            files.append([path, *entry[:4], extents])
        document = {
            "number": self.number,
            "time": time.time(),
            "rank": self.host.read_json("seat").get("rank"),
            "blobs": list(blobs),
            "files": files,
            "left": left,
        }
        data = gzip.compress(json.dumps(document).encode(), 6)
        if len(data) > MOST:
            raise AgentError("the list of results has %d bytes, more than %d" % (len(data), MOST))
        return data


def _receive(stream: BinaryIO) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the messages of a reader up to the last one, `F`.

    Raises:
        AgentError: there is no such one.
    """
    kind = b""
    while kind != b"F":
        head = stream.read(5)
        kind, size = struct.unpack(">cI", head) if len(head) == 5 else (b"", 0)
        data = stream.read(min(size, LONGEST_MESSAGE))
        if not kind or len(data) != size:
            raise AgentError("the process that reads results was killed")
        yield kind, data
