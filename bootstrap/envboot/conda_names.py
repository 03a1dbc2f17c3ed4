"""What the file name of a conda package says: `name-version-build.conda`. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# Only the name may have dashes (conda's "Package naming conventions").
_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(conda|tar\.bz2)")


class CondaName(NamedTuple):
    """Name, version and build string of a conda package."""

    name: str
    version: str
    build: str


def parse_name(url: str) -> CondaName | None:
    """Return what the file's name in a URL or path says; None where it is no conda package."""
    found = _FILE.fullmatch(unquote(urlsplit(url).path).rpartition("/")[2])
    return CondaName(found["name"], found["version"], found["build"]) if found else None
