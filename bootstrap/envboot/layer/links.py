"""Links in code and projects: followed inside of the project and its checkout, and no farther."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from envboot.errors import LayerError
from envboot.layer.project_files import Entry, list_files
from envboot.repositories import find_top, is_too_wide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_MOST = 500
"""More directories behind links are no project, but links that lead to each other."""


class Reached(NamedTuple):
    """A file that an entry leads to: `path` as seen by the program, `source` where it is here.

    `source` is None where a link leads nowhere, to a directory around itself, or (`outside`) to
    what is no part of the project. `name` is the file's path as seen from the project.
    """

    path: str
    source: Path | None = None
    name: str = ""
    outside: bool = False


def find_boundary(folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the directory that links of a directory may lead to, and what is below it.

    The top of the git checkout around it; without one, the nearest with a pyproject.toml, else
    the directory itself. Home directories are too wide.
    """
    real = folder.resolve()
    if top := find_top(real, environment):
        return top
    for place in (real, *real.parents):
        if (place / "pyproject.toml").is_file() and not is_too_wide(place, environment):
            return place
    return real


def names_exactly(patterns: Sequence[str], path: str) -> bool:
    """Whether one of `include`'s patterns says the very name of a file or link.

    `conf/.env` and `.env` do; `conf/`, `*.env` and `*` may match much that nobody thought of.
    """
    from pathspec import GitIgnoreSpec

    name = path.rpartition("/")[2]
    exact = [
        pattern
        for each in patterns
        if (pattern := each.rstrip("/")).rpartition("/")[2].replace("\\", "") == name
    ]
    if not exact or not GitIgnoreSpec.from_lines(exact).match_file(path):
        return False
    # A later pattern may take it back.
    spec = GitIgnoreSpec.from_lines(patterns)
    return spec.match_file(path) or spec.match_file(f"{path}/")


def remove_outward(tree: Path) -> list[str]:
    """Remove the links of a checkout that lead out of it, and return those that led to something.

    A commit has no such file: what is there on this machine is none of its content.
    """
    real = tree.resolve()
    removed = []
    for place, folders, files in os.walk(real):
        if place == os.fspath(real) and ".git" in folders:
            folders.remove(".git")
        for name in (*folders, *files):
            path = real / place / name
            if path.is_symlink() and _find_inside(real, os.path.relpath(path, real)) is None:
                if path.exists():
                    removed.append(os.path.relpath(path, real))
                path.unlink()
    return sorted(removed)


class Links:
    """Follows the links of one directory.

    A link that leads elsewhere is followed if `include` names it, or with `choose_first` if it
    is in the directory itself: there it was put by whoever installed it.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        include: Sequence[str] = (),
        *,
        choose_first: bool = False,
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._include = include
        self._choose_first = choose_first
        self._boundary = find_boundary(folder, environment)
        self._left = _MOST

    def follow(self, entry: Entry) -> Iterator[Reached]:
        """Yield the files behind an entry, which itself may be one.

        Raises:
            LayerError: links lead to more directories than any project has.
        """
        return self._follow(self._folder, entry, entry.path, self._boundary, frozenset())

    def settle(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[Reached]]:
        """Return a project's files as a copy of it must have them, and what is not among them.

        A link inside of the project stays one, written so that it leads to the same file in the
        copy; another is replaced by what it leads to.
        """
        real = self._folder.resolve()
        settled: dict[str, Entry] = {}
        left = []
        for entry in entries:
            inside = entry.link is not None and _find_inside(real, entry.path)
            if inside:
                settled[entry.path] = entry._replace(link=inside)
            elif entry.link is None:
                settled[entry.path] = entry
            else:
                for reached in self.follow(entry):
                    if reached.source is None:
                        left.append(reached)
                    else:
                        settled[reached.path] = _copy_of(reached.path, reached.source)
        return [settled[path] for path in sorted(settled)], left

    def _follow(
        self, folder: Path, entry: Entry, path: str, boundary: Path, above: frozenset[Path]
    ) -> Iterator[Reached]:
        place = folder / entry.path
        if entry.link is None and not above:
            yield Reached(path, place, path)
            return
        try:
            # Resolving takes ten times as long as a look at the file, and few entries are links.
            target = place.resolve(strict=True)
        except (OSError, RuntimeError):
            yield Reached(path)
            return
        if not target.is_relative_to(boundary):
            is_first = self._choose_first and "/" not in path
            if not is_first and not names_exactly(self._include, path):
                yield Reached(path, outside=True)
                return
            boundary = find_boundary(
                target if target.is_dir() else target.parent, self._environment
            )
        if target.is_file():
            yield Reached(path, target, os.path.relpath(target, self._boundary))
        elif not target.is_dir() or target in above or _is_around(target, place):
            yield Reached(path)
        else:
            self._left -= 1
            if self._left < 0:
                raise LayerError(
                    f"Expected links in `{self._folder}` to lead to at most {_MOST} directories, "
                    "found more",
                    causes=(f"`{path}` is one of the links",),
                    hint="Links that lead to each other multiply: remove some",
                )
            for inner in list_files(target, self._environment):
                below = f"{path}/{inner.path}"
                yield from self._follow(target, inner, below, boundary, above | {target})


def _is_around(target: Path, place: Path) -> bool:
    return place.parent.resolve().is_relative_to(target)


def _find_inside(real: Path, path: str) -> str | None:
    """Return what a link says that leads to another file of the project, else None."""
    try:
        target = (real / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return os.path.relpath(target, (real / path).parent) if target.is_relative_to(real) else None


def _copy_of(path: str, source: Path) -> Entry:
    is_executable = bool(source.stat().st_mode & 0o100)
    return Entry(path, executable=is_executable, source=os.fspath(source))
