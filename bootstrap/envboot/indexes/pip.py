"""Where pip looks: its configuration files and `PIP_…` variables (pip's "Configuration")."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.folders import config_folder, home_folder
from envboot.indexes.configuration import Configuration, Index, absolute, read_index

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "cert",
    "keyring-provider",
)


def find_pip_files(environment: Mapping[str, str], prefix: Path) -> list[Path]:
    """Return the files that pip of an environment reads, in its order: the last one wins."""
    chosen = environment.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    home = home_folder(environment)
    system = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    files = [
        *(Path(folder, "pip", "pip.conf") for folder in reversed(system)),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        home / "Library" / "Application Support" / "pip" / "pip.conf",
        config_folder(environment) / "pip" / "pip.conf",
        prefix / "pip.conf",
        *([Path(chosen)] if chosen else []),
    ]
    if "APPDATA" in environment:
        files.insert(0, Path(environment["APPDATA"], "pip", "pip.ini"))
    return [file for file in files if file.is_file()]


def read_pip(environment: Mapping[str, str], folder: Path, prefix: Path) -> Configuration:
    """Read pip's settings as `pip install` in `folder` would: a later source replaces a value.

    Lists are separated by blanks or new lines, as pip separates them.
    """
    found: dict[str, str] = {}
    for file in find_pip_files(environment, prefix):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(file.read_text("utf-8"))
        except (OSError, configparser.Error, UnicodeDecodeError):
            # pip itself stops at such a file: the environment was made without it.
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {_name(key): value for key, value in parser.items(section)}
    for key in _KEYS:
        variable = "PIP_" + key.upper().replace("-", "_")
        if environment.get(variable):
            found[key] = environment[variable]
    return Configuration(
        indexes=tuple(_indexes(found)),
        find_links=tuple(absolute(item, folder) for item in found.get("find-links", "").split()),
        no_index=found.get("no-index", "").lower() in ("1", "true", "yes", "on", "t", "y"),
        insecure=tuple(found.get("trusted-host", "").split()),
        certificates=found.get("cert") or None,
        # pip asks keyring once a server wants a login, unless told otherwise.
        keyring=found.get("keyring-provider", "auto") != "disabled",
        strategy="unsafe-best-match",
    )


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _indexes(found: dict[str, str]) -> list[Index]:
    """Return the indexes in pip's order, of whose equal files the first one's counts.

    uv asks its default last of all, so that is what the last one becomes.
    """
    first, extra = found.get("index-url", "").split(), found.get("extra-index-url", "").split()
    if not first:
        return [*map(read_index, extra)]
    *before, last = [*first, *extra]
    return [*map(read_index, before), read_index(last, default=True)]
