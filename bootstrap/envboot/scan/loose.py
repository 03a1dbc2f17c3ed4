"""Code on the path that belongs to no distribution: what of it travels, and what does not."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from envboot.errors import name_some
from envboot.repositories import read_with_git
from envboot.scan.schema import Loose, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envboot.scan.schema import Distribution, Scan

Origin = Literal["current", "pythonpath", "pth", "site"]

_SITES = ("site-packages", "dist-packages")
_LEFTOVERS = frozenset({"__pycache__", "build", "dist", "node_modules"})
_OF_ENVIRONMENTS = frozenset({"bin", "etc", "include", "lib", "lib64", "share", "Lib", "Scripts"})
_MARKS = ("pyvenv.cfg", "conda-meta")
_BUILD_SCRIPTS = frozenset({"setup.py"})

# How far below a folder without `__init__.py` code is looked for: folders of data may be large.
_DEPTH = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class PathEntry:
    """A folder on the path; for site-packages, `names` are what nothing there accounts for."""

    folder: Path
    origin: Origin
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Project:
    """A project of this machine that is installed, and the top-level names that it provides."""

    folder: Path
    names: frozenset[str]


def take_places(document: dict[str, Any]) -> tuple[tuple[PathEntry, ...], dict[str, list[str]]]:
    """Take what the probe saw on the path out of its document, and what projects provide."""
    places = tuple(
        PathEntry(
            folder=Path(each["folder"]),
            origin="site" if each["installed"] else "pth",
            names=tuple(each["strays"]),
        )
        for each in document.pop("folders")
    )
    return places, document.pop("provided")


def list_places(
    folder: Path, environment: Mapping[str, str], *, current: bool = True
) -> list[PathEntry]:
    """Return what Python looks into first: the current folder, then `PYTHONPATH`.

    Without `current` the folder only says from where relative entries are seen.
    """
    first = [PathEntry(folder=folder, origin="current")] if current else []
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    return first + [
        PathEntry(folder=folder / entry, origin="pythonpath") for entry in entries if entry
    ]


def find_loose(
    scan: Scan,
    places: Sequence[PathEntry],
    provided: Mapping[str, Sequence[str]],
    *,
    environment: Mapping[str, str],
) -> tuple[tuple[Loose, ...], tuple[Problem, ...]]:
    """Return the code in each place in the order of the path, and what of it stays here.

    `provided` are the top-level names of installed projects by the distribution's name: their
    code travels as a wheel. A folder that is reached twice counts once.
    """
    projects = _find_projects(scan, provided)
    unique = {place.folder.resolve(): place for place in reversed(places)}
    elsewhere = frozenset([*unique, *(project.folder for project in projects)])
    loose, problems = [], []
    for place in places:
        real = place.folder.resolve()
        if unique.get(real) is not place:
            continue
        seen = _refuse(place)
        if seen:
            problems.append(Problem(subject=str(place.folder), message=seen))
            continue
        too_wide = real in (Path(environment.get("HOME") or "/").resolve(), Path("/"))
        depth = 0 if too_wide else _DEPTH
        names = list(_list_names(place, scan, elsewhere - {real}, depth))
        if place.origin == "site" and (rest := _find_rest(place, names)):
            message = f"Not sent, for it is no code and nothing has installed it: {rest}"
            problems.append(Problem(subject=str(place.folder), message=message))
        names = _without_projects(names, real, place, projects)
        if names and too_wide:
            problems.append(_too_wide(place, names))
            continue
        ignored = _ignored_by_git(place, names, environment)
        problems += [
            Problem(
                subject=str(place.folder / name),
                message="Is ignored by git: it does not travel",
            )
            for name in ignored
        ]
        names = [name for name in names if name not in ignored]
        if names:
            loose.append(Loose(folder=str(place.folder), origin=place.origin, names=tuple(names)))
    return tuple(loose), tuple(problems)


def join_added(loose: Sequence[Loose], distributions: Sequence[Distribution]) -> tuple[Loose, ...]:
    """Return loose code with the files that were added to the directories of distributions.

    They go to site-packages, as stray modules do, and only with the distribution that is sent.
    """
    added: dict[str, list[str]] = {}
    for item in distributions:
        if item.added:
            added.setdefault(item.location, []).extend(item.added)
    joined = []
    for each in loose:
        more = added.pop(each.folder, []) if each.origin == "site" else []
        joined.append(replace(each, names=tuple(sorted({*each.names, *more}))))
    for folder, names in added.items():
        joined.append(Loose(folder=folder, origin="site", names=tuple(sorted(names))))
    return tuple(joined)


def _find_projects(scan: Scan, provided: Mapping[str, Sequence[str]]) -> list[_Project]:
    projects = []
    for item in scan.distributions:
        if item.direct_url and "dir_info" in item.direct_url:
            folder = Path(unquote(urlsplit(item.direct_url["url"]).path))
            folder = folder / (item.direct_url.get("subdirectory") or "")
            names = frozenset(provided.get(item.name, ()))
            projects.append(_Project(folder=folder.resolve(), names=names))
    return projects


def _refuse(place: PathEntry) -> str | None:
    """Say why nothing of a place can travel; None where it can."""
    origin = "on `PYTHONPATH`" if place.origin == "pythonpath" else "on the path"
    if not place.folder.exists():
        return f"Is {origin}, but is gone"
    if not place.folder.is_dir():
        return f"Is an archive {origin}: unpack it, or install it with pip"
    if place.origin == "pythonpath" and place.folder.name in _SITES:
        return f"Is {origin}, and so no part of the environment: install its packages there"
    if not os.access(place.folder, os.R_OK | os.X_OK):
        return f"Is {origin}, but cannot be read"
    return None


def _too_wide(place: PathEntry, names: list[str]) -> Problem:
    kind = "the root of this machine" if place.folder.resolve() == Path("/") else "a home folder"
    some = name_some(names, most=3)
    return Problem(
        subject=str(place.folder),
        message=f"Is {kind}: the code in it ({some}) stays here; give it its own folder",
    )


def _list_names(
    place: PathEntry, scan: Scan, elsewhere: frozenset[Path], depth: int
) -> Iterator[str]:
    """Yield the files and folders of a place that can be imported, in order."""
    tag = scan.interpreter.tag
    installed = frozenset(item.name for item in scan.distributions)
    environment = _is_environment(place.folder)
    # Beside the files of installed packages: see `probe.added`.
    yield from (name for name in place.names if "/" in name)
    with os.scandir(place.folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if place.origin == "site" and entry.name not in place.names:
                continue
            if environment and entry.name in _OF_ENVIRONMENTS:
                continue
            if place.origin != "site" and _is_metadata(entry, place, installed):
                yield entry.name
            if entry.name not in _BUILD_SCRIPTS and _is_code(entry, tag, elsewhere, depth):
                yield entry.name


def _is_metadata(entry: os.DirEntry[str], place: PathEntry, installed: frozenset[str]) -> bool:
    """Whether `importlib.metadata` finds a distribution there that is not sent by itself.

    `pip install --target` and eggs leave some. That of an installed project is in its wheel.
    """
    if entry.name == "EGG-INFO":
        return place.folder.name.endswith(".egg")
    stem, _, ending = entry.name.rpartition(".")
    # Beside a project its build leaves an `.egg-info`; nothing is installed by that.
    kinds = ("dist-info",) if place.origin == "current" else ("dist-info", "egg-info")
    if ending not in kinds:
        return False
    # A build leaves `name.egg-info`, an installer `name-1.0.dist-info` (PEP 376).
    name = re.sub(r"[-_.]+", "-", stem.partition("-")[0]).lower()  # PEP 503
    return name not in installed


def _is_code(entry: os.DirEntry[str], tag: str, elsewhere: frozenset[Path], depth: int) -> bool:
    """Whether a module, a package, or a folder that holds some can be imported by its name."""
    stem, _, ending = entry.name.partition(".")
    if not stem.isidentifier():
        return False
    if ending:
        return _is_module(ending, tag) and Path(entry).is_file()
    # `Path` is quiet about a link that leads to itself.
    if not Path(entry).is_dir() or depth == 0:
        return False
    if Path(entry).resolve() in elsewhere or _is_environment(Path(entry)):
        return False
    try:
        with os.scandir(entry.path) as inner:
            below = list(inner)
    except OSError:
        return False
    if any(each.name == "__init__.py" for each in below):
        return True
    if entry.name in _LEFTOVERS:
        return False
    # Files first: they say it without another folder being read.
    below.sort(key=lambda each: "." not in each.name)
    return any(_is_code(each, tag, elsewhere, depth - 1) for each in below)


def _is_module(ending: str, tag: str) -> bool:
    """Whether a file with this ending is a module of the interpreter with that byte code tag."""
    if ending in ("py", "so", "abi3.so", "pyd"):
        return True
    windows = tag.replace("cpython-", "cp") + "-"
    return (ending.startswith(f"{tag}-") and ending.endswith(".so")) or (
        ending.startswith(windows) and ending.endswith(".pyd")
    )


def _is_environment(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in _MARKS)


def _find_rest(place: PathEntry, names: Sequence[str]) -> str | None:
    """Name what nothing has installed into site-packages, and is not among `names` either."""
    rest = sorted(set(place.names) - {*names, *_BUILD_SCRIPTS, *_LEFTOVERS})
    return name_some([name for name in rest if (place.folder / name).exists()]) if rest else None


def _without_projects(
    names: list[str], real: Path, place: PathEntry, projects: Sequence[_Project]
) -> list[str]:
    """Leave out what an installed project provides: its wheel brings it."""
    for project in projects:
        if place.origin != "site" and not real.is_relative_to(project.folder):
            continue
        rest = [name for name in names if name not in project.names]
        if place.origin == "pth" and len(rest) == len(names):
            # Its metadata does not say: the packages are the project, modules lie beside it.
            rest = [name for name in names if name.endswith(".py")]
        names = rest
    return names


def _ignored_by_git(
    place: PathEntry, names: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """Return the names that git ignores as a whole; none where there is no git."""
    parents = (place.folder, *place.folder.parents)
    if place.origin == "site" or not names or not any((each / ".git").exists() for each in parents):
        return []
    _, output = read_with_git(
        place.folder,
        environment,
        "check-ignore",
        "-z",
        "--stdin",
        input=os.fsencode("\0".join(names)),
    )
    ignored = set(output.split("\0"))
    return [name for name in names if name in ignored]
