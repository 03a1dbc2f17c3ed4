"""What lies beside the user's code and does not travel: said once, before it is missed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.errors import name_some
from envboot.layer.binaries import is_native
from envboot.layer.project_files import find_ignored, is_leftover
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envboot.scan.schema import Loose, Source
    from envboot.session import Session

_LISTED = 3

# What nobody misses on a machine.
_USUAL = (
    "README*", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "CHANGELOG*", "CONTRIBUTING*",
    "pyproject.toml", "setup.*", "MANIFEST.in", "tox.ini", "pytest.ini", "noxfile.py", "tasks.py",
    "*.lock", "*-lock.*", "pylock*.toml", "requirements*", "environment*.y*ml", "pixi.toml",
    "Pipfile", "Makefile", "Dockerfile*", "docs/", "build/", "dist/",
)  # fmt: skip

_COMPILED = (".c", ".cc", ".cpp", ".cxx", ".f", ".f90", ".h", ".hpp", ".pyx", ".rs")


def find_staying(
    loose: Loose, travelling: Sequence[str], elsewhere: Sequence[str], session: Session
) -> list[Problem]:
    """Name the files and directories beside loose code that are not sent, and may be missed.

    `travelling` are the files that are sent; in `elsewhere` is code that gets there otherwise.
    """
    from pathspec import GitIgnoreSpec

    folder = Path(loose.folder)
    spec = GitIgnoreSpec.from_lines([*_USUAL, *session.settings.exclude])
    known = {*loose.names, *(path.partition("/")[0] for path in travelling)}
    for place in elsewhere:
        known.update(Path(os.path.relpath(place, folder)).parts[:1])
    with os.scandir(folder) as entries:
        left = [
            # `Path` is quiet about a link that leads to itself.
            entry.name + "/" * Path(entry.path).is_dir()
            for entry in entries
            if not entry.name.startswith(".") and entry.name not in known
        ]
    left = [
        name
        for name in left
        if not is_leftover(name)
        and not spec.match_file(name)
        and not _is_code(folder / name)
        and not any((folder / name / mark).exists() for mark in ("pyvenv.cfg", "conda-meta"))
    ]
    names = [name.rstrip("/") for name in left]
    names = sorted(set(names) - find_ignored(folder, session.environment, names)) if names else []
    if not names:
        return []
    some = name_some(names, most=_LISTED)
    way = "name it in the command, or in `include`"
    if loose.origin != "current":
        way = f'to send it, write `include = ["{os.path.relpath(folder, session.folder)}/…"]`'
    message = f"Not sent (not Python code): {some}; {way}"
    return [Problem(subject=loose.folder, message=message)]


def _is_code(path: Path) -> bool:
    """Whether something is code, which stays for a reason: a project's own, as a rule."""
    if not path.stem.isidentifier():
        return False
    return path.suffix == ".py" or any(path.glob("*.py"))


def find_lacking(source: Source, wheel: Path) -> list[Problem]:
    """Say which files in the packages of a project on this disk its wheel lacks."""
    folder = Path(source.path or "", source.subdirectory or "")
    if not source.path or not folder.is_dir():
        return []
    with zipfile.ZipFile(wheel) as archive:
        shipped = {_name(path) for path in archive.namelist()}
    packages = sorted({path.partition("/")[0] for path in shipped if "/" in path})
    lacking = _list_lacking_tops(folder, shipped) if source.editable else []
    for package in packages:
        bases = [base for base in (folder / "src", folder) if (base / package).is_dir()]
        if bases and "." not in package:
            lacking += _list_lacking(bases[0], package, shipped)
    if not lacking:
        return []
    some = name_some(lacking, most=_LISTED)
    message = (
        f"Not sent (missing from the project's wheel): {some}; declare packages and package data "
        "in the project's build configuration, where git does not ignore them"
    )
    return [Problem(subject=source.name, message=message)]


def _list_lacking_tops(folder: Path, shipped: set[str]) -> list[str]:
    """Return the modules and packages that an editable install may show, and its wheel lacks.

    Those of `src`; with a flat layout, where tests and scripts lie beside the package, only if the
    wheel has no module at all.
    """
    tops = {path.partition("/")[0] for path in shipped}
    is_empty = all(top.endswith((".dist-info", ".data", ".pth")) for top in tops)
    base = folder / "src" if (folder / "src").is_dir() else folder
    if base == folder and not is_empty:
        return []
    return sorted(
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in base.iterdir()
        if entry.name not in {*tops, "setup.py", "build", "dist", "docs", "tests"}
        and not _is_hidden(entry.name)
        and _holds_code(entry)
    )


def _holds_code(path: Path) -> bool:
    """Whether a path can be imported: a module, or a directory with some, `__init__.py` or not."""
    if not path.stem.isidentifier():
        return False
    return path.suffix == ".py" if path.is_file() else any(path.rglob("*.py"))


def _list_lacking(base: Path, package: str, shipped: set[str]) -> Iterator[str]:
    """Yield files, and folders of which nothing is shipped, as they lie below `base`."""
    known = {os.fspath(parent) for path in shipped for parent in Path(path).parents}
    for place, folders, files in os.walk(base / package):
        at = os.path.relpath(place, base)
        kept = [name for name in sorted(folders) if not _is_hidden(name)]
        folders[:] = [name for name in kept if f"{at}/{name}" in known]
        for name in sorted(files):
            path = f"{at}/{name}"
            if not _is_hidden(name) and not path.endswith(_COMPILED) and _name(path) not in shipped:
                yield path
        for name in kept:
            inside = (file for _, _, below in os.walk(f"{place}/{name}") for file in below)
            if name not in folders and not all(map(_is_hidden, inside)):
                yield f"{at}/{name}/"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or is_leftover(name)


def _name(path: str) -> str:
    """Name a file of a package; an extension module as all of its builds."""
    place, _, name = path.rpartition("/")
    return f"{place}/{name.partition('.')[0]}" if is_native(path) else path
