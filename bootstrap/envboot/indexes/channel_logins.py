"""Logins of channels where other tools keep them: anaconda-client, rattler, micromamba."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

from envboot.documents import find_table
from envboot.folders import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def read_tokens(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield URL and token of anaconda-client and conda-token, which name files by their URL."""
    home = home_folder(environment)
    own = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    for folder in (home / ".continuum" / "anaconda-client" / "tokens", own / "binstar"):
        for file in sorted(folder.glob("*.token")):
            url = unquote_plus(file.name.removesuffix(".token")).rstrip("/")
            try:
                yield url.replace("://api.", "://conda.") + "/", file.read_text().strip()
            except OSError:
                continue


def read_hosts(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return what rattler and micromamba know of hosts, in the form of rattler's file.

    A key is `host`, `host:port`, `*.domain`, or one of the first two with a path behind.
    """
    home = home_folder(environment)
    rattler = Path(environment.get("RATTLER_AUTH_FILE") or home / ".rattler" / "credentials.json")
    # `micromamba auth login` writes it (mamba's `Context::load_authentication_info` reads it).
    mamba = _read_entries(home / ".mamba" / "auth" / "authentication.json")
    translated = ((key, _translate(entry)) for key, entry in mamba.items())
    return {
        **{_without_scheme(key): entry for key, entry in translated if entry},
        **_read_entries(rattler),
    }


def list_keys(url: str) -> list[str]:
    """Return the keys under which a URL's login may stand, the narrowest first."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    segments = [segment for segment in parts.path.split("/") if segment]
    below = ["/".join(["", *segments[:n]]) for n in range(len(segments), 0, -1)]
    labels = host.split(".")
    return [
        *(parts.netloc + path for path in below),
        *(host + path for path in below),
        parts.netloc,
        host,
        *("*." + ".".join(labels[n:]) for n in range(len(labels))),
    ]


def _translate(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, token = entry.get("type"), entry.get("token")
    if kind in ("CondaToken", "BearerToken") and isinstance(token, str):
        return {kind: token}
    if kind == "BasicHTTPAuthentication":
        try:
            password = base64.b64decode(str(entry["password"])).decode()
        except (KeyError, ValueError):
            return None
        return {"BasicHTTP": {"username": str(entry.get("user", "")), "password": password}}
    return None


def _without_scheme(key: str) -> str:
    return key.rpartition("://")[2].rstrip("/")


def _read_entries(file: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: entry for key, entry in find_table(document).items() if isinstance(entry, dict)}
