"""Sdists of a lock file, fetched once and checked by their hash."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import urlopen

from bootstrap.errors import LockError
from bootstrap.lock.kept import write_whole
from bootstrap.scan.document import Source
from bootstrap.scan.urls import strip_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SECONDS = 60
_CONNECTIONS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """An sdist on the web, and the name that it gets here."""

    name: str
    version: str
    url: str
    sha256: str
    file: str


def fetch_all(downloads: Sequence[Download], folder: Path) -> tuple[Source, ...]:
    """Fetch what is not in `folder` yet; raises `LockError` for the first that fails."""
    if not downloads:
        return ()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return tuple(pool.map(lambda download: _fetch(download, folder), downloads))


def _fetch(download: Download, folder: Path) -> Source:
    place = folder / download.sha256 / download.file
    if not place.is_file():
        try:
            with urlopen(download.url, timeout=_SECONDS) as answer:
                data = answer.read()
        except (OSError, ValueError) as error:
            # urllib's words may repeat the URL, and with it a password.
            cause = getattr(error, "reason", None) or getattr(error, "strerror", None)
            raise LockError(
                f"Failed to fetch `{download.name}` from `{strip_url(download.url)}`",
                causes=(str(cause or type(error).__name__),),
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != download.sha256:
            raise LockError(
                f"Expected sha256 `{download.sha256}` of `{strip_url(download.url)}`, "
                f"found `{found}`",
                hint="Lock again, and find out who changed the file",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, data)
    return Source(name=download.name, version=download.version, path=str(place))


def hash_file(path: Path) -> str:
    """Return a file's sha256 in hex."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
