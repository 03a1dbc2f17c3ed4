"""envboot in the environment that is sent: it and what only it needs are no part of the work."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envboot.documents import find_table
from envboot.scan.dependencies import find_needed, markers_of, parse_added
from envboot.scan.projects import find_sources
from envboot.selection.required import find_required
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from envboot.scan.schema import Scan
    from envboot.selection import Selection
    from envboot.session import Session

OWN = "envboot"
MOST_FILES = 20_000
"""Up to so many files are searched for imports; with more, everything is sent: 2 s."""

_MOST_BYTES = 2**22
_TOOLS = frozenset({"pip", "setuptools", "wheel"})
_CODE = (".py", ".pyx", ".ipynb")
_NO_CODE = frozenset({".git", ".venv", "__pycache__", "node_modules", "site-packages"})
# `import a.b as c, d`, in a notebook's JSON too; and imports by a name in quotes.
_IMPORT = re.compile(r"\bimport[ \t]+([\w., \t]+)|\bfrom[ \t]+(\w+)[\w.]*[ \t]+import\b")
_NAMED = re.compile(r"(?:import_module|__import__|find_spec)\(\s*\\?[\"'](\w+)")


def find_own(
    scan: Scan, selection: Selection, session: Session, *, words: Sequence[str], dask: bool = False
) -> frozenset[str]:
    """Return the normalised names of envboot and of what nothing but envboot needs.

    `words` are the command; `dask` says that the machines will run Dask. A package is sent if
    another one needs it, if the user asks for it, if pip installed it by its name (PEP 376's
    REQUESTED), if the project depends on it, or if the code that is sent or the command uses it.
    Without envboot in the environment the result is empty.
    """
    markers = markers_of(scan.platform, scan.interpreter.version)
    added = parse_added((*session.settings.add, *selection.add))
    named = (*selection.only, *find_required(session.settings, dask=dask), *added)
    mine = {item.name for item in scan.distributions if not item.conda and not item.system}
    if OWN not in mine:
        return frozenset()
    candidates = (find_needed(scan, [OWN], markers) & mine) - _TOOLS
    others = {item.name for item in scan.distributions} - candidates
    others |= {str(canonicalize_name(record.name)) for record in scan.conda}
    others |= {str(canonicalize_name(name)) for name in named}
    others |= _list_requested(scan, candidates - {OWN}) | _list_dependencies(session.folder)
    rest = candidates - find_needed(scan, others, markers)
    if not rest:
        return frozenset()
    modules = {module: name for name in rest for module in _list_modules(scan, name)}
    used = _find_imports(scan if selection.loose else replace(scan, loose=()), words)
    if used is None:
        return frozenset()
    roots = {modules[module] for module in used & modules.keys()}
    return frozenset(rest - find_needed(scan, roots, markers))


def _find_metadata(scan: Scan, name: str) -> Iterator[Path]:
    for item in scan.distributions:
        if item.name == name:
            for entry in Path(item.location).glob("*.dist-info"):
                if canonicalize_name(entry.name.partition("-")[0]) == name:
                    yield entry


def _list_requested(scan: Scan, names: Collection[str]) -> set[str]:
    """Return what was installed by its name, and not because something needs it.

    uv 0.9 writes REQUESTED for everything that it installs.
    """
    installed = {item.name for item in scan.distributions if item.installer != "uv"}
    return {
        name
        for name in installed.intersection(names)
        if any((entry / "REQUESTED").is_file() for entry in _find_metadata(scan, name))
    }


def _list_dependencies(folder: Path) -> set[str]:
    """Return what the nearest `pyproject.toml` asks for; envboot itself may be a tool there."""
    for each in (folder, *folder.parents):
        try:
            document = tomllib.loads((each / "pyproject.toml").read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            break
        project, poetry = find_table(document, "project"), find_table(document, "tool", "poetry")
        texts = [*_strings(project.get("dependencies")), *find_table(poetry, "dependencies")]
        for optional in find_table(project, "optional-dependencies").values():
            texts += _strings(optional)
        for group in find_table(document, "dependency-groups").values():
            texts += _strings(group)
        return {name for text in texts if (name := _read_name(text)) != OWN}
    return set()


def _strings(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _read_name(text: str) -> str:
    try:
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement:
        return ""


def _list_modules(scan: Scan, name: str) -> set[str]:
    """Return the top-level modules and the programs of a distribution, by its RECORD."""
    found = {name.replace("-", "_")}
    if name == OWN:
        # Of an editable install RECORD has none.
        found |= {"envboot", "envboot_provisioners", "render-userdata"}
    for entry in _find_metadata(scan, name):
        try:
            lines = (entry / "RECORD").read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            parts = line.partition(",")[0].strip('"').split("/")
            if parts[0] == "..":
                found.add(parts[-1])
            elif not parts[0].endswith(".dist-info"):
                found.add(parts[0].partition(".")[0])
    return found - {"", "__pycache__"}


def _find_imports(scan: Scan, words: Sequence[str]) -> set[str] | None:
    """Return what the code and the command may import or run; None if there is too much code."""
    found = {name for word in words for name in re.findall(r"[\w-]+", word)}
    for number, file in enumerate(_list_code(scan)):
        with contextlib.suppress(OSError):
            if number == MOST_FILES or file.stat().st_size > _MOST_BYTES:
                return None
            found |= _list_imports(file.read_text("utf-8", "replace"))
    return found


def _list_imports(text: str) -> set[str]:
    found = set(_NAMED.findall(text))
    for several, one in _IMPORT.findall(text):
        found |= {one} if one else {each.strip().partition(".")[0] for each in several.split(",")}
    return {name.partition(" ")[0] for name in found}


def _list_code(scan: Scan) -> Iterator[Path]:
    """Yield the files of loose code and of the projects that are built here."""
    places = [Path(each.folder) / name for each in scan.loose for name in each.names]
    places += [
        Path(source.path, source.subdirectory or "")
        for source in find_sources(scan)
        if source.path and source.name != OWN
    ]
    for place in places:
        if place.suffix in _CODE:
            yield place
        for top, folders, names in os.walk(place):
            folders[:] = [each for each in folders if each not in _NO_CODE]
            yield from (Path(top, name) for name in names if name.endswith(_CODE))
