"""What decides where uv looks: part of a lock's request, so that a change asks again."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bootstrap.agent import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

_IRRELEVANT = ("PASSWORD", "TOKEN", "CACHE", "PROGRESS", "TIMEOUT", "CONCURRENT", "THREADS")


def describe_indexes(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return uv's settings by name: variables without credentials, files as hashes.

    uv reads `uv.toml` or `[tool.uv]` at or above the working folder, and the user's and the
    system's `uv.toml` (uv's reference, "Configuration files").
    """
    found = {
        name: " ".join(wire.without_query(word) for word in value.split())
        for name, value in environment.items()
        if name.startswith("UV_") and not any(part in name for part in _IRRELEVANT)
    }
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    system = environment.get("XDG_CONFIG_DIRS") or "/etc"
    files = [place / "uv.toml" for place in (folder, *folder.parents)]
    files += [Path(home, "uv", "uv.toml"), Path(system.partition(":")[0], "uv", "uv.toml")]
    if "UV_CONFIG_FILE" in environment:
        files.append(Path(environment["UV_CONFIG_FILE"]))
    for file in files:
        if file.is_file():
            found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    for place in (folder, *folder.parents):
        project = place / "pyproject.toml"
        if project.is_file():
            found[str(project)] = _hash_table(project)
    return found


def _hash_table(project: Path) -> str:
    try:
        table = tomllib.loads(project.read_text("utf-8")).get("tool", {}).get("uv", {})
    except ValueError:
        # uv itself warns of it and reads on.
        return "unreadable"
    return hashlib.sha256(repr(table).encode()).hexdigest()
