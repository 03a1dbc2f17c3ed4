"""What a project's build can read of the checkout around it, so that a cached wheel is not stale.

A copy of a project has its checkout beside it (`project_files.copy_files`): builds read
`../VERSION`, force-included directories and the repository itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.layer.project_files import is_leftover
from envboot.repositories import find_git_folder, find_top

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST = 50_000
"""Files to look at, a quarter of a second; nothing is cached beside more of them."""


def digest_surroundings(folder: Path, environment: Mapping[str, str]) -> str | None:
    """Return a digest of the checkout around a project; None where there is too much to look at.

    Files count by size and times, as git's index does it: all of their content would have to be
    read for every launch. A project that is no part of a checkout has no surroundings.
    """
    real = folder.resolve()
    top = find_top(real, environment)
    if top is None:
        return ""
    total = hashlib.sha256()
    git = find_git_folder(top)
    for line in _list_revisions(git) if git else ():
        total.update(line + b"\n")
    if top != real:
        for number, line in enumerate(_list_files(top, real)):
            if number == MOST:
                return None
            total.update(line + b"\n")
    return total.hexdigest()


def _list_revisions(git: Path) -> Iterator[bytes]:
    """Yield what tools that derive a version from git look at: the commit, and the tags."""
    head = _read(git / "HEAD")
    yield head
    common = git / os.fsdecode(_read(git / "commondir") or b".")
    if head.startswith(b"ref: refs/"):
        yield _read(common / os.fsdecode(head.removeprefix(b"ref: ")))
    yield _read(common / "packed-refs")
    for place, _, names in sorted(os.walk(common / "refs" / "tags")):
        for name in sorted(names):
            yield os.fsencode(name) + b" " + _read(Path(place, name))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError:
        return b""


def _list_files(top: Path, project: Path) -> Iterator[bytes]:
    """Yield a line for every file of a checkout but the project's own, links followed.

    What builds and tools leave behind changes all the time, and no build reads it.
    """
    seen: set[str] = set()
    places = [os.fspath(top)]
    while places:
        place = places.pop()
        if place == os.fspath(project) or (real := os.path.realpath(place)) in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        if any(entry.name in ("pyvenv.cfg", "conda-meta") for entry in entries):
            continue
        for entry in entries:
            if is_leftover(entry.name):
                continue
            try:
                info = entry.stat()
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                places.append(entry.path)
            else:
                line = f"{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_mode}"
                yield os.fsencode(entry.path) + b"\0" + line.encode()
