"""From the bucket to files here: in parallel, verified, each file whole or not at all.

Paths of an index stay below the directory: they have no `..`, and a link that is in their way here
is not followed. The bucket cannot bring links, so that a look at each part of a path is enough.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from envboot.errors import StoreError
from envboot.files import hash_file
from envboot.fleet.known_files import KnownFiles
from envboot.fleet.results import MOST_BLOB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from envboot.fleet.results import Extent, ResultFile, ResultIndex
    from envboot.store.protocol import Store

AT_ONCE = 8
LONGEST = 255
"""Bytes of a file's name."""
_WINDOWS = frozenset('\\:*?"<>|') | frozenset(map(chr, range(32)))


@dataclass(kw_only=True)
class Destination:
    """Where the files of one instance go; `mark` is in the names of those that are put beside."""

    folder: Path
    mark: str
    known: KnownFiles = field(default_factory=KnownFiles)
    is_windows: bool = os.name == "nt"
    _folders: dict[str, Path] = field(default_factory=dict)

    def find_folder(self, parts: tuple[str, ...]) -> Path:
        """Return the directory of a path's first parts; where a file or a link is, one beside."""
        name = "/".join(parts)
        if not parts:
            return self.folder
        if name not in self._folders:
            at = self.find_folder(parts[:-1]) / parts[-1]
            if at.is_symlink() or (at.exists() and not at.is_dir()):
                at = put_beside(at, self.mark)
            self._folders[name] = at
        return self._folders[name]

    def find_fault(self, path: str) -> str | None:
        """Return why this system has no such file, None where it may have it."""
        parts = path.split("/")
        if any(len(os.fsencode(part)) > LONGEST for part in parts):
            return "its name is too long"
        if self.is_windows and any(
            not _WINDOWS.isdisjoint(part) or part[-1] in ". " for part in parts
        ):
            return "Windows has no such names"
        return None


@dataclass(kw_only=True)
class Task:
    """One file that is written: `place` is where, `before` is what was there when it was chosen."""

    file: ResultFile
    place: Path
    before: os.stat_result | None
    is_beside: bool = False
    rest: int = 0

    @cached_property
    def part(self) -> Path:
        """Where it is until it is whole."""
        name = f".{self.place.name}.envboot-part"
        if len(os.fsencode(name)) > LONGEST:
            name = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.envboot-part"
        return self.place.with_name(name)


@dataclass(kw_only=True)
class Fetched:
    """What became of an index: files that were written, put beside, equal already, or failed.

    `folder` is where they are, `mark` what is in the names of those beside; `failed` has a path
    and why.
    """

    folder: Path
    mark: str
    index: ResultIndex
    written: list[Task] = field(default_factory=list)
    equal: list[ResultFile] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def beside(self) -> list[Task]:
        """The files that are under another name, since this one had been taken."""
        return [task for task in self.written if task.is_beside]


def put_beside(place: Path, mark: str) -> Path:
    """Return the name for what comes from elsewhere: `model.remote-<mark>.pkl`."""
    stem, suffix = (place.stem, place.suffix) if place.stem else (place.name, "")
    return place.with_name(f"{stem}.remote-{mark}{suffix}")


def choose(index: ResultIndex, files: Sequence[ResultFile], there: Destination) -> Fetched:
    """Decide for each file where it goes, by what is there; writes nothing."""
    found = Fetched(folder=there.folder, mark=there.mark, index=index)
    for file in files:
        if fault := there.find_fault(file.path):
            found.failed.append((file.path, fault))
            continue
        parts = tuple(file.path.split("/"))
        place = there.find_folder(parts[:-1]) / parts[-1]
        for _ in range(100):
            before = _look(place)
            if before is None or _may_replace(file, place, before, there):
                found.written.append(
                    Task(
                        file=file,
                        place=place,
                        before=before,
                        is_beside=place != there.folder.joinpath(*parts),
                    )
                )
                break
            if _is_equal(file, place, before):
                found.equal.append(file)
                break
            place = put_beside(place, there.mark)
        else:
            found.failed.append((file.path, "all names for it are taken"))
    return found


def _look(place: Path) -> os.stat_result | None:
    try:
        return place.lstat()
    except FileNotFoundError:
        return None


def _is_equal(file: ResultFile, place: Path, before: os.stat_result) -> bool:
    is_like = stat.S_ISREG(before.st_mode) and before.st_size == file.size
    return is_like and hash_file(place) == file.sha256


def _may_replace(file: ResultFile, place: Path, before: os.stat_result, there: Destination) -> bool:
    if not stat.S_ISREG(before.st_mode):
        return False
    path = place.relative_to(there.folder).as_posix()
    known = {there.known.sent.get(path), there.known.fetched.get(path)} - {None}
    if not known:
        return False
    found = hash_file(place)
    return found in known and found != file.sha256


class Fetcher:
    """Fetches the blobs of the chosen files, several at once."""

    def __init__(
        self,
        store: Store,
        chosen: Fetched,
        progress: Callable[[int, int | None], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._chosen = chosen
        self._progress = progress
        self._lock = threading.Lock()
        self._done = 0
        self._total = sum(task.file.size for task in chosen.written)
        self._failed: dict[int, str] = {}

    def fetch(self) -> None:
        """Write every file that was chosen; those that fail are in `failed` afterwards.

        Raises:
            StoreError: they do not fit on the disk, or cannot be written there.
        """
        chosen = self._chosen
        try:
            chosen.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(chosen.folder).free
            if self._total > free:
                raise StoreError(
                    f"Cannot fetch {self._total / 1e9:,.1f} GB into `{chosen.folder}`",
                    causes=(f"{free / 1e9:,.1f} GB are free there",),
                    hint="Name another directory with `--into`, or the files that you need",
                )
            wanted = self._plan()
        except OSError as error:
            raise _explain(chosen.folder, error) from error
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            list(pool.map(self._fetch_blob, wanted, wanted.values()))
        except OSError as error:
            raise _explain(chosen.folder, error) from error
        finally:
            # Half-written files stay for the next time; an interrupt need not wait for the rest.
            pool.shutdown(cancel_futures=True)
        chosen.failed += [
            (task.file.path, self._failed[id(task)])
            for task in chosen.written
            if id(task) in self._failed
        ]
        chosen.written = [task for task in chosen.written if id(task) not in self._failed]

    def _plan(self) -> dict[str, list[tuple[Task, int, Extent]]]:
        """Return which pieces of which files each blob brings, without those that are here."""
        wanted: dict[str, list[tuple[Task, int, Extent]]] = {}
        for task in self._chosen.written:
            task.place.parent.mkdir(parents=True, exist_ok=True)
            at, missing = 0, []
            for extent in task.file.extents:
                if _is_here(task, at, extent):
                    self._done += extent.length
                else:
                    missing.append((at, extent))
                at += extent.length
            task.rest = len(missing)
            for place, extent in missing:
                wanted.setdefault(extent.blob, []).append((task, place, extent))
            if not missing:
                task.part.touch()
                self._finish(task)
        self._progress(self._done, self._total)
        return wanted

    def _fetch_blob(self, blob: str, pieces: list[tuple[Task, int, Extent]]) -> None:
        key = f"{self._chosen.index.folder}blobs/{blob}"
        why = ""
        try:
            data = self._store.read(key, most=MOST_BLOB)
        except StoreError as error:
            data, why = None, error.message
        if data is None:
            why = why or "a part of it is not in the bucket"
        elif hashlib.sha256(data).hexdigest() != blob:
            why = "a part of it in the bucket is not what the machine sent"
        for task, at, extent in pieces:
            if why or data is None or len(data) < extent.offset + extent.length:
                self._fail(task, why or "a part of it is shorter than the machine said")
                continue
            self._write(task, at, data[extent.offset : extent.offset + extent.length])

    def _write(self, task: Task, at: int, data: bytes) -> None:
        """Write a piece; the last one makes the file appear."""
        descriptor = os.open(task.part, os.O_WRONLY | os.O_CREAT | _NOFOLLOW | _BINARY, 0o666)
        with os.fdopen(descriptor, "wb") as stream:
            stream.seek(at)
            stream.write(data)
        with self._lock:
            self._done += len(data)
            task.rest -= 1
            is_whole = not task.rest and id(task) not in self._failed
            self._progress(self._done, self._total)
        if is_whole:
            # A small file need not be read again.
            is_one = len(data) == task.file.size
            self._finish(task, hashlib.sha256(data).hexdigest() if is_one else None)

    def _finish(self, task: Task, sha256: str | None = None) -> None:
        """Verify a file and give it its name, unless that has changed meanwhile."""
        file = task.file
        os.truncate(task.part, file.size)
        if (sha256 or hash_file(task.part)) != file.sha256:
            task.part.unlink()
            self._fail(task, "its parts are not what the machine read")
            return
        if file.mode & 0o111:
            # As umask lets others read it, they may execute it.
            mode = task.part.stat().st_mode
            task.part.chmod(mode | (mode & 0o444) >> 2)
        with contextlib.suppress(OSError, OverflowError):
            os.utime(task.part, ns=(file.mtime, file.mtime))
        now = _look(task.place)
        if now and (not task.before or _mark(now) != _mark(task.before)):
            # Its part keeps the name that it has by now.
            task.place, task.is_beside = put_beside(task.place, self._chosen.mark), True
        task.part.replace(task.place)

    def _fail(self, task: Task, why: str) -> None:
        with self._lock:
            self._failed.setdefault(id(task), why)


_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


def _mark(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_here(task: Task, at: int, extent: Extent) -> bool:
    """Whether an earlier attempt has written a piece: a whole blob says by its name what it is."""
    if extent.offset or task.part.is_symlink():
        return False
    try:
        with task.part.open("rb") as stream:
            stream.seek(at)
            data = stream.read(extent.length)
    except OSError:
        return False
    return len(data) == extent.length and hashlib.sha256(data).hexdigest() == extent.blob


def _explain(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write results into `{error.filename or folder}`",
        causes=(error.strerror or str(error),),
        hint="Name another directory with `--into`",
    )
