"""Which contents of files here may be replaced: what was sent, and what was fetched before.

Whatever else is in a file somebody wrote since, and it stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envboot.files import hash_file, write_whole
from envboot.fleet.history import KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envboot.layer.loose_files import Code

MOST = 200_000
"""Files of one directory that are remembered at most."""


@dataclass(kw_only=True, slots=True)
class KnownFiles:
    """By path below one directory: the sha256 of what was sent, and of what was fetched."""

    sent: dict[str, str] = field(default_factory=dict)
    fetched: dict[str, str] = field(default_factory=dict)


def write_sent(state: Path, launch: str, code: Code | None) -> None:
    """Remember what is sent of the launch directory, and forget launches that are long over."""
    folder = state / "results"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > KEPT:
                file.unlink()
    current = [each for each in code.folders if each.loose.origin == "current"] if code else []
    sent = {file.path: hash_file(file.source) for each in current for file in each.files}
    write_whole(folder / f"{launch}.json", json.dumps(sent).encode())


def read_known(state: Path, folder: Path, launch: str | None) -> KnownFiles:
    """Return what is known of a directory; `launch` is the one that was made from it, if any."""
    return KnownFiles(
        sent=_read(state / "results" / f"{launch}.json") if launch else {},
        fetched=_read(_find_file(state, folder)),
    )


def write_fetched(state: Path, folder: Path, files: Iterable[tuple[str, str]]) -> None:
    """Remember the path and sha256 of files that were fetched into a directory."""
    file = _find_file(state, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    found = {**_read(file), **dict(files)}
    newest = dict(list(found.items())[-MOST:])
    write_whole(file, json.dumps(newest).encode())


def _find_file(state: Path, folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return state / "results" / f"fetched-{name}.json"


def _read(file: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_bytes())
        if isinstance(found, dict):
            return {path: text for path, text in found.items() if isinstance(text, str)}
    return {}
