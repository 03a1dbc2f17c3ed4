"""Whether the modules of conda's packages are as their records say."""

from __future__ import annotations

import hashlib
import json
import os

from .found import Environment, read
from .health import PATCHED, find_time, judge

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from typing import Any

_SLACK = 2.0
"""Seconds: where file systems keep whole ones only, a file may seem newer than its record."""


def check_modules(found: Environment, prefix: str) -> None:
    """Report conda packages of which files in site-packages were edited in place.

    Installers write a package's record when its files are there, so only what is newer is read.
    To be called while `found.conda` and `found.files` are of the same records, and once the
    distributions are known that are still conda's.
    """
    owned = {
        document["conda"]: document
        for document in found.distributions.values()
        if document.get("conda")
    }
    for number, record in enumerate(found.conda):
        if record["name"] in owned:
            wrong = _find_changed(prefix, record, found.files[number])
            if wrong:
                judge(found, owned[record["name"]], wrong)


def _find_changed(prefix: str, record: dict[str, Any], files: bytes) -> list[bytes]:
    file = "%(name)s-%(version)s-%(build)s.json" % record
    file = os.path.join(prefix, "conda-meta", file)
    written = find_time(file) + _SLACK
    newer = []
    for path in json.loads(files):
        if "/site-packages/" in path and "/tests/" not in path and not path.endswith(".pyc"):
            try:
                status = os.stat(os.path.join(prefix, path))
            except OSError:
                # That a whole package is gone is found by its metadata.
                continue
            if status.st_mtime > written and status.st_size <= PATCHED:
                newer.append(path)
    if not newer:
        return []
    digests = _read_digests(file)
    return [
        os.fsencode(os.path.join(prefix, path))
        for path in newer
        if path in digests
        and hashlib.sha256(read(os.path.join(prefix, path))).hexdigest() != digests[path]
    ]


def _read_digests(file: str) -> dict[str, str]:
    """Return what a record says of its files; not of those into which conda writes the prefix.

    A moved prefix (conda-pack) has another one in them.
    """
    try:
        rows = json.loads(read(file))["paths_data"]["paths"]
        return {
            row["_path"]: row.get("sha256_in_prefix") or row["sha256"]
            for row in rows
            if "prefix_placeholder" not in row and (row.get("sha256_in_prefix") or "sha256" in row)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
