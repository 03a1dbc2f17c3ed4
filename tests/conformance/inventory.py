"""Print all that can be seen of an environment from inside it, as JSON; Python 3.8 and later.

`python -c SOURCE [ROOT]` in an empty folder; the environment is in ROOT (default: its prefix).
Files are told by where a plain installation would have them, so that an editable project and an
installed one look the same: `site/…` for site-packages, `…` for the rest of the prefix.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import re
import sys
import sysconfig
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = tuple(importlib.machinery.all_suffixes())
UNSEEN = ("__pycache__", "conda-meta")


def walk(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each file below a folder: its path there, and where it is."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in UNSEEN]
        for name in names:
            path = os.path.join(place, name)
            if not name.endswith(".pyc"):
                yield os.path.relpath(path, folder), path


def digest(path: str, root: str) -> str:
    """Return a file's hash, wherever the prefix is, whatever interpreter a script names."""
    if os.path.islink(path) and not os.path.exists(path):
        return "broken link"
    with open(path, "rb") as stream:
        data = stream.read()
    if data.startswith(b"#!") and b"python" in data[:400]:
        # Long or relocatable ones begin in `sh` and name Python in the second line.
        data = re.sub(rb"\A#!/bin/sh\n'''exec'.*\n' '''\n|\A#!.*\n", b"#!python\n", data)
    if os.fsencode(root) in data:
        # In a binary, the room that a shorter prefix leaves is filled with zeros.
        data = re.sub(rb"\0+", b"\0", data.replace(os.fsencode(root), b"<prefix>"))
    return hashlib.sha256(data).hexdigest()


def find_folders(root: str) -> tuple[str, list[str]]:
    """Return site-packages, and the folders of the path outside it that are not Python's own."""
    # Debian's interpreter reaches it by a link of another name.
    (site,) = {
        path
        for path in map(os.path.realpath, sys.path)
        if os.path.basename(path) == "site-packages" and is_below(path, root)
    }
    own = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")]
    own = [os.path.realpath(path) for path in (*own, os.path.dirname(os.__file__))]
    others = []
    for path in map(os.path.realpath, filter(os.path.isdir, sys.path)):
        is_own = any(
            path in (place, place + "/lib-dynload") for place in map(os.path.realpath, own)
        )
        if path != site and not is_own and "dist-packages" not in path:
            others.append(path)
    return site, others


def is_below(path: str, root: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(root) + os.sep)


def find_names(folder: str) -> Iterator[str]:
    """Yield the modules and packages of one folder, those without `__init__` too."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            if name.isidentifier() and any(file.endswith(ENDINGS) for file, _ in walk(path)):
                yield name
        elif name.endswith(ENDINGS) and name.split(".")[0].isidentifier():
            yield name.split(".")[0]


def find_mapped() -> dict[str, str]:
    """Return the packages that setuptools' editable finders map to a folder."""
    mapped: dict[str, str] = {}
    for name in [name for name in sys.modules if name.startswith("__editable__")]:
        mapped.update(getattr(sys.modules[name], "MAPPING", {}))
        for package, folders in getattr(sys.modules[name], "NAMESPACES", {}).items():
            for folder in folders:
                mapped[package] = folder
    return mapped


def import_all(name: str, modules: dict[str, str]) -> None:
    """Import a module and all below it; `modules` gets what came of each."""
    if name in modules or name.rpartition(".")[2] in ("__main__", "__init__"):
        return
    try:
        module = importlib.import_module(name)
        modules[name] = "imported"
    except BaseException as error:
        modules[name] = type(error).__name__
        return
    for folder in getattr(module, "__path__", ()):
        if os.path.isdir(folder):
            for child in find_names(folder):
                import_all(f"{name}.{child}", modules)


def describe_distributions(site: str) -> tuple[dict[str, str], list[list[str]]]:
    """Return the versions by name, and every entry point."""
    versions: dict[str, str] = {}
    points: list[list[str]] = []
    for item in importlib.metadata.distributions(path=[site]):
        versions[re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower()] = item.version
        points += [[point.group, point.name, point.value] for point in item.entry_points]
    return versions, sorted(points)


def main() -> None:
    root = sys.argv[1] if len(sys.argv) > 1 else sys.prefix
    site, others = find_folders(root)
    mapped = find_mapped()
    files: dict[str, str] = {}
    for relative, path in walk(root):
        if not is_below(path, site):
            files[relative] = digest(path, root)
    for relative, path in walk(site):
        files["site/" + relative] = digest(path, root)
    outside = {name: os.path.join(folder, name) for folder in others for name in find_names(folder)}
    outside.update({name.replace(".", "/"): folder for name, folder in mapped.items()})
    for name, place in outside.items():
        single = next((place + end for end in ENDINGS if os.path.isfile(place + end)), None)
        if single:
            files["site/" + name + single[len(place) :]] = digest(single, root)
        for relative, path in walk(place):
            files[f"site/{name}/{relative}"] = digest(path, root)
    names = {*find_names(site), *(name.partition("/")[0] for name in outside)}
    modules: dict[str, str] = {}
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for name in sorted(names):
            import_all(name, modules)
    versions, points = describe_distributions(site)
    document: dict[str, Any] = {
        "python": sys.version,
        "modules": modules,
        "versions": versions,
        "entry_points": points,
        "files": files,
    }
    print("inventory " + json.dumps(document, sort_keys=True))


if __name__ == "__main__":
    main()
