"""Finds and reads what the command has made, in a process that is the command's user."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import stat
import struct
import time
from typing import Any, Dict, Iterator, List, Optional

from .run import find_user

# Bytes of a blob.
BLOB = 4 << 20
# Smaller files share a blob: a request costs more than they do.
SMALL = 1 << 20
# Bytes of new content after which there is an index, though the look goes on.
STEP = 512 << 20
MOST_FILES = 100_000
# Clients make no deeper directories.
DEEPEST = 90
# Names of files that are reported as left out, for each reason.
NAMED = 20
# Nanoseconds within which a file may change again with no other time than before: kernels take
# the time from a clock that ticks every 1 to 10 ms.
TICK = 50_000_000
JUNK = frozenset({"__pycache__", ".git", ".hg", ".svn", ".ipynb_checkpoints"})
JUNK |= {".mypy_cache", ".pytest_cache", ".ruff_cache"}
# Byte code, and what `work` and clients call files that they are still writing.
UNFINISHED = (".pyc", ".envboot", ".envboot-part")
# What is known of a file: size, mode, mtime, sha256 and extents (blob, offset, length), then what
# tells whether it has changed since, None where that cannot be told.
Entry = List[Any]


class Reader:
    """One look at the files, which tells the process that uploads what it lacks."""

    def __init__(self, results: Any, final: bool, out: int) -> None:
        self.host = results.host
        self.order = results.order
        self.limit = results.limit
        self.final = final
        self.out = out
        self.known = results.known
        self.same = results.same
        self.blobs = set(results.blobs)
        self.files: Dict[str, Entry] = {}
        self.found_same: Dict[str, Any] = {}
        self.left: Dict[str, List[Any]] = {}
        self.total = self.new = 0
        self.buffer = bytearray()
        self.waiting: List[List[Any]] = []
        self.sent: Dict[str, str] = {}
        self.top = ""
        self.ignore = [(re.compile(text), leaves) for text, leaves in self.order.get("ignore", ())]

    def read(self) -> None:
        """Tell the other side all that there is."""
        self._become_user()
        home = self.host.root + "/home/envboot"
        try:
            with open(home + "/.work.json", encoding="utf-8") as stream:
                self.sent = json.load(stream)["files"]
        except (OSError, ValueError, KeyError, TypeError):
            # The command's user may write there: then everything is new.
            self.sent = {}
        work = os.path.realpath(home + "/work")
        self.top = work
        self._walk(work, "")
        for place in self.order.get("paths", ()):
            self._add(os.path.join(work, place), work)
        self._flush()
        self._tell(b"F", self.files)

    def _become_user(self) -> None:
        user = find_user(self.host)
        if user:
            found = pwd.getpwnam(user["user"])
            os.setgroups([])
            os.setgid(found.pw_gid)
            os.setuid(found.pw_uid)

    def _add(self, place: str, work: str) -> None:
        """Take what is at a path that was asked for; one in the working directory is there."""
        real = os.path.realpath(place)
        name = os.path.basename(os.path.normpath(place))
        if not os.path.exists(real):
            self._leave("missing", place)
        elif (real + "/").startswith(work + "/"):
            return
        elif os.path.isdir(real):
            self.sent, self.top = {}, real
            self._walk(real, name + "/")
        else:
            self.sent, self.top = {}, os.path.dirname(real)
            self._take(real, name)

    def _walk(self, folder: str, prefix: str) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            self._leave("unreadable", prefix or folder)
            return
        for entry in entries:
            path, is_folder = prefix + entry.name, entry.is_dir(follow_symlinks=False)
            if entry.name in JUNK or self._is_ignored(path + "/" * is_folder):
                continue
            if is_folder and path.count("/") >= DEEPEST:
                self._leave("deep", path)
            elif is_folder:
                self._walk(entry.path, path + "/")
            elif not entry.name.endswith(UNFINISHED):
                self._take(entry.path, path)

    def _is_ignored(self, path: str) -> bool:
        # As in `.gitignore`, the last pattern that matches decides. What matches a part of the path
        # has decided on that directory.
        found = [leaves for pattern, leaves in self.ignore if pattern.fullmatch(path)]
        return bool(found and found[-1])

    def _take(self, place: str, path: str) -> None:
        """Take one file, unless there is a reason to leave it out."""
        try:
            if os.path.islink(place):
                real = os.path.realpath(place)
                # Content comes home, and no links: nothing there could lead astray.
                if not real.startswith(self.top + "/") or not os.path.isfile(real):
                    self._leave("link", path)
                    return
                place = real
            found = os.stat(place)
            old, mark = self.known.get(path), _mark(found)
            if not stat.S_ISREG(found.st_mode):
                self._leave("special", path)
            elif self.same.get(path) == mark:
                self.found_same[path] = mark
            elif path in self.files:
                self._leave("twice", path)
            elif len(self.files) >= MOST_FILES:
                self._leave("count", path)
            elif self.limit and self.total + found.st_size > self.limit:
                self._leave("limit", path)
            else:
                entry = old if old and old[5] == mark else self._read(place, path)
                entry = entry or old
                if entry:
                    self.files[path] = entry
                    self.total += entry[0]
        except OSError:
            self._leave("unreadable", path)

    def _read(self, place: str, path: str) -> Optional[Entry]:
        """Read a file; None where it is as it was sent, or changes while it is read.

        When the command has ended, what has changed three times is taken as it was read.
        """
        for rest in (2, 1, 0):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(place, flags), "rb", buffering=0) as stream:
                if path in self.sent and path not in self.known:
                    whole = hashlib.sha256()
                    found = os.fstat(stream.fileno())
                    for data in _read_blobs(stream, found.st_size):
                        whole.update(data)
                    if whole.hexdigest() == self.sent[path]:
                        self.found_same[path] = _mark(found)
                        return None
                    stream.seek(0)
                entry = self._read_once(stream, self.final and not rest)
            if entry or not self.final:
                return entry
        return None

    def _read_once(self, stream: Any, as_it_is: bool) -> Optional[Entry]:
        before = os.fstat(stream.fileno())
        if not stat.S_ISREG(before.st_mode):
            # It was one a moment ago.
            return None
        whole, size, small = hashlib.sha256(), 0, b""
        extents: List[List[Any]] = []
        for data in _read_blobs(stream, before.st_size):
            whole.update(data)
            size += len(data)
            if before.st_size < SMALL:
                small = data
            else:
                extents.append([self._send(data), 0, len(data)])
        after = os.fstat(stream.fileno())
        if (size, _mark(after)) != (before.st_size, _mark(before)) and not as_it_is:
            return None
        if small:
            extents = [self._pack(small)]
        mark = _mark(before) if time.time_ns() - before.st_ctime_ns > TICK else None
        if self.new > STEP:
            self._flush()
            self._tell(b"I", {**self.known, **self.files})
        mode = before.st_mode & 0o777
        return [size, mode, before.st_mtime_ns, whole.hexdigest(), extents, mark]

    def _pack(self, data: bytes) -> List[Any]:
        """Return the extent of a small file; its blob is named when that is full."""
        if len(self.buffer) + len(data) > BLOB:
            self._flush()
        extent = ["", len(self.buffer), len(data)]
        self.buffer += data
        self.waiting.append(extent)
        return extent

    def _flush(self) -> None:
        if self.waiting:
            name = self._send(bytes(self.buffer))
            for extent in self.waiting:
                extent[0] = name
            self.buffer, self.waiting = bytearray(), []

    def _send(self, data: bytes) -> str:
        """Send a blob that the bucket lacks; returns its name."""
        name = hashlib.sha256(data).hexdigest()
        if name not in self.blobs:
            self.blobs.add(name)
            self._write(b"B", data)
            self.new += len(data)
        return name

    def _tell(self, kind: bytes, files: Dict[str, Entry]) -> None:
        document = {"files": files, "same": self.found_same, "left": self.left}
        self._write(kind, json.dumps(document).encode())
        self.new = 0

    def _write(self, kind: bytes, data: bytes) -> None:
        rest = memoryview(struct.pack(">cI", kind, len(data)) + data)
        while rest:
            rest = rest[os.write(self.out, rest) :]

    def _leave(self, reason: str, path: str) -> None:
        """Count what is left out; the first names are told."""
        count, names = self.left.setdefault(reason, [0, []])
        if count < NAMED:
            names.append(path)
        self.left[reason][0] = count + 1


def _mark(found: os.stat_result) -> List[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]


def _read_blobs(stream: Any, size: int) -> Iterator[bytes]:
    """Yield what a file has up to a size, in pieces of a blob: one that grows must not hold us."""
    while size:
        data = b""
        while len(data) < min(size, BLOB):
            block = stream.read(min(size, BLOB) - len(data))
            if not block:
                break
            data += block
        if not data:
            break
        yield data
        size -= len(data)
