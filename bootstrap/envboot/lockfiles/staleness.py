"""A project's lock file and what is installed: where they differ, what is installed is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envboot.documents import find_table
from envboot.folders import home_folder
from envboot.scan.dependencies import is_active, markers_of, read_marker
from envboot.scan.discovery import list_project_directories
from envboot.scan.schema import Problem
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from envboot.scan.schema import Scan
    from envboot.session import Session

MOST_BYTES = 2**22
"""Larger lock files are not compared: reading this one takes two seconds."""

_SHOWN = 5
_TOOLS = {
    "uv.lock": "uv sync",
    "poetry.lock": "poetry sync",
    "pdm.lock": "pdm sync",
    "pixi.lock": "pixi install",
}


def compare_lock_file(scan: Scan, session: Session) -> tuple[Problem, ...]:
    """Return a note if the project's lock file has other versions than the environment.

    The nearest file counts, in the current directory or above it up to the top of the project.
    Versions are compared by name; of `uv.lock` also what the project needs here and is not
    installed. A file that cannot be read says nothing: its own tool complains about it.
    """
    folders = list_project_directories(session.folder, home_folder(session.environment))
    files = (folder / name for folder in folders for name in _TOOLS)
    file = next((each for each in files if each.is_file()), None)
    if file is None or file.stat().st_size > MOST_BYTES:
        return ()
    try:
        if file.name == "pixi.lock":
            differing = _find_differing(_read_pixi(file, scan.platform), _list_conda(scan))
        else:
            document = tomllib.loads(file.read_text("utf-8"))
            differing = _find_differing(_list_versions(document), _list_installed(scan))
            if file.name == "uv.lock":
                missing = _list_missing(document, file.parent, session.folder, scan)
                differing += [f"`{name}` is locked and not installed" for name in missing]
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return ()
    if not differing:
        return ()
    rest = len(differing) - _SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return (
        Problem(
            subject=str(file),
            message=f"Differs from what is installed and sent: {'; '.join(differing[:_SHOWN])}"
            f"{more}. To install what is locked: `{_TOOLS[file.name]}`",
        ),
    )


def _list_installed(scan: Scan) -> dict[str, str]:
    """Return the versions of what came from an index; a built project's is its own affair."""
    built = {item.name for item in scan.distributions if item.editable or item.direct_url}
    return {item.name: item.version for item in scan.distributions if item.name not in built}


def _list_conda(scan: Scan) -> dict[str, str]:
    owned = {item.name for item in scan.distributions if item.conda}
    pip = {name: each for name, each in _list_installed(scan).items() if name not in owned}
    return pip | {record.name: record.version for record in scan.conda}


def _find_differing(locked: Mapping[str, set[str]], installed: Mapping[str, str]) -> list[str]:
    return [
        f"`{name}` is {installed[name]}, locked {' or '.join(sorted(versions))}"
        for name, versions in sorted(locked.items())
        if name in installed and not _is_among(installed[name], versions)
    ]


def _list_versions(document: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the versions of each name; markers may choose between several."""
    found: dict[str, set[str]] = {}
    for package in document.get("package", ()):
        if isinstance(package.get("version"), str):
            found.setdefault(canonicalize_name(package["name"]), set()).add(package["version"])
    return found


def _is_among(version: str, versions: set[str]) -> bool:
    try:
        found, known = Version(version), set(map(Version, versions))
    except InvalidVersion:
        return version in versions
    # The lock may have `2.1.0` where an index of PyTorch's has `2.1.0+cu121`.
    return found in known or Version(found.public) in known


def _list_missing(document: Mapping[str, Any], top: Path, folder: Path, scan: Scan) -> list[str]:
    """Return what the project of `folder` needs here by `uv.lock`, extras and groups aside."""
    markers = markers_of(scan.platform, scan.interpreter.version)
    packages: dict[str, list[Mapping[str, Any]]] = {}
    root = None
    for package in document.get("package", ()):
        packages.setdefault(canonicalize_name(package["name"]), []).append(package)
        source = find_table(package, "source")
        place = source.get("editable") or source.get("virtual") or source.get("directory")
        if place and folder.is_relative_to((top / place).resolve()):
            deeper = root is None or len(place) > len(root[0])
            root = (place, package) if deeper else root
    if root is None or document.get("conflicts"):
        return []
    names = {item.name for item in scan.distributions}
    found: set[str] = set()
    waiting = list(_list_needed(root[1], markers))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for package in packages.get(name, ()):
                waiting += _list_needed(package, markers)
    return sorted(found - names)


def _list_needed(package: Mapping[str, Any], markers: Mapping[str, str]) -> Iterator[str]:
    for needed in package.get("dependencies", ()):
        if is_active(read_marker(needed.get("marker", "")), markers):
            yield canonicalize_name(needed["name"])


def _read_pixi(file: Path, platform: str) -> dict[str, set[str]]:
    """Return the versions of the environment `default` on a platform."""
    from rattler import CondaLockedBinaryPackage, LockFile, PypiLockedPackage

    try:
        environments = dict(LockFile.from_path(file).environments())
    except Exception as error:
        # rattler's own exceptions have no common class.
        raise ValueError(str(error)) from error
    found: dict[str, set[str]] = {}
    for subdir, packages in environments["default"].packages_by_platform().items():
        for package in packages if str(subdir.subdir) == platform else ():
            if isinstance(package, PypiLockedPackage):
                found.setdefault(canonicalize_name(package.name), set()).add(package.version)
            elif isinstance(package, CondaLockedBinaryPackage):
                # `…/linux-64/python-3.11.7-h_cpython.conda`
                name, version, _ = package.location.rpartition("/")[2].rsplit("-", 2)
                found.setdefault(name, set()).add(version)
    return found
