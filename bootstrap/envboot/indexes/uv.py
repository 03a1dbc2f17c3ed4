"""Where uv looks: its files and `UV_…` variables (uv's "Configuration files", "Indexes")."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot.documents import find_table
from envboot.folders import config_folder
from envboot.indexes.configuration import Configuration, Index, absolute, merge, read_index
from envboot.indexes.logins import Login
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

_NETWORK = ("http-proxy", "https-proxy", "native-tls", "no-proxy", "offline", "system-certs")
_TRUE = ("1", "true", "yes", "on", "t", "y")


def find_uv_files(environment: Mapping[str, str], folder: Path) -> list[Path]:
    """Return the files that uv reads in `folder`, the one that decides first."""
    if environment.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return []
    if environment.get("UV_CONFIG_FILE"):
        return [folder / environment["UV_CONFIG_FILE"]]
    system = (environment.get("XDG_CONFIG_DIRS") or "/etc").partition(":")[0]
    project = next(filter(None, (_find_project(at) for at in (folder, *folder.parents))), None)
    files = [project, config_folder(environment) / "uv" / "uv.toml", Path(system, "uv", "uv.toml")]
    return [file for file in files if file and file.is_file()]


def _find_project(folder: Path) -> Path | None:
    """Return a folder's own file; `uv.toml` hides `[tool.uv]` of the same folder."""
    if (folder / "uv.toml").is_file():
        return folder / "uv.toml"
    project = folder / "pyproject.toml"
    return project if project.is_file() and read_table(project) else None


def read_table(file: Path) -> dict[str, Any]:
    """Return uv's settings of a `uv.toml`, or of a `pyproject.toml`; empty where it is no TOML."""
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        # uv itself warns of it and reads on.
        return {}
    if file.name == "pyproject.toml":
        return find_table(document, "tool", "uv")
    return document


def read_uv(environment: Mapping[str, str], folder: Path) -> Configuration:
    """Read uv's settings as `uv pip install` in `folder` would."""
    found = [_read_variables(environment, folder)]
    for file in find_uv_files(environment, folder):
        table = read_table(file)
        options = {**table, **find_table(table, "pip")}
        found.append(_read_options(options, environment, file.parent))
    return reduce(merge, found)


def _read_variables(environment: Mapping[str, str], folder: Path) -> Configuration:
    indexes = []
    for item in environment.get("UV_INDEX", "").split():
        name, separator, url = item.partition("=")
        named = bool(separator) and ":" not in name
        entry = {"name": name, "url": url} if named else {"url": item}
        indexes.append(_read_entry(entry, environment, folder))
    indexes += map(read_index, environment.get("UV_EXTRA_INDEX_URL", "").split())
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    if default:
        indexes.append(read_index(absolute(default, folder), default=True))
    links = re.split(r"[\s,]+", environment.get("UV_FIND_LINKS", "").strip())
    return Configuration(
        indexes=tuple(indexes),
        find_links=tuple(absolute(item, folder) for item in links if item),
        keyring=environment.get("UV_KEYRING_PROVIDER") == "subprocess",
        strategy=environment.get("UV_INDEX_STRATEGY") or None,
    )


def _read_options(
    options: dict[str, Any], environment: Mapping[str, str], folder: Path
) -> Configuration:
    indexes = [_read_entry(entry, environment, folder) for entry in options.get("index", ())]
    indexes += [read_index(absolute(url, folder)) for url in options.get("extra-index-url", ())]
    if "index-url" in options:
        indexes.append(read_index(absolute(options["index-url"], folder), default=True))
    return Configuration(
        indexes=tuple(indexes),
        find_links=tuple(absolute(item, folder) for item in options.get("find-links", ())),
        no_index=bool(options.get("no-index")),
        insecure=tuple(options.get("allow-insecure-host", ())),
        keyring=options.get("keyring-provider") == "subprocess",
        strategy=options.get("index-strategy"),
        sources=_read_sources(options.get("sources", {})),
        network={key: options[key] for key in _NETWORK if key in options},
    )


def _read_entry(entry: dict[str, Any], environment: Mapping[str, str], folder: Path) -> Index:
    """Read one `[[index]]`; its login may stand in `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`."""
    index = read_index(absolute(entry["url"], folder), default=bool(entry.get("default")))
    name = entry.get("name")
    login = index.login
    if name:
        start = "UV_INDEX_" + re.sub("[^A-Z0-9]", "_", name.upper())
        username, password = (environment.get(f"{start}_{end}") for end in ("USERNAME", "PASSWORD"))
        if username or password:
            login = Login(username=username or "", password=password or "")
    return Index(
        url=index.url,
        login=login,
        name=name,
        default=index.default,
        explicit=bool(entry.get("explicit")),
        flat=entry.get("format") == "flat",
    )


def _read_sources(table: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the packages that an index is named for; all other sources are in the scan."""
    from packaging.utils import canonicalize_name

    found = {}
    for name, value in table.items():
        entries = value if isinstance(value, list) else [value]
        entries = [entry for entry in entries if "index" in entry]
        if entries:
            found[str(canonicalize_name(name))] = entries
    return found
