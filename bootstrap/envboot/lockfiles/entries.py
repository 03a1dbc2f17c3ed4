"""One PyPI package of a lock file that names a single place, as PEP 751 entry. Pure."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageVcs, PackageWheel
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envboot.scan.projects import is_archive

_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def make_entry(
    name: str, version: str, location: str, sha256: str | None, *, editable: bool = False
) -> Package:
    """Return the entry of a wheel, an archive, a git commit (`git+URL#commit`) or a folder.

    A hash that is missing stays so: `choose_files` names it.
    """
    hashes = {"sha256": sha256} if sha256 else {}
    parts = urlsplit(location)
    exact = _version(version)
    normal = canonicalize_name(name)
    if parts.scheme.startswith("git+"):
        # pip has it in the fragment, pixi in the query.
        query = {**parse_qs(parts.query), **parse_qs(parts.fragment)}
        address = location.removeprefix("git+").partition("#")[0].partition("?")[0]
        address, _, revision = address.rpartition("@") if "@" in parts.path else (address, "", "")
        commit = next((part for part in (parts.fragment, revision) if _COMMIT.fullmatch(part)), "")
        subdirectory = query.get("subdirectory", [None])[0]
        vcs = PackageVcs(type="git", url=address, commit_id=commit, subdirectory=subdirectory)
        return Package(name=normal, version=exact, vcs=vcs)
    if parts.path.endswith(".whl"):
        url, path = (location, None) if parts.scheme else (None, location)
        wheel = PackageWheel(url=url, path=path, hashes=hashes)
        return Package(name=normal, version=exact, wheels=[wheel])
    if parts.scheme in ("http", "https"):
        subdirectory = parse_qs(parts.fragment).get("subdirectory", [None])[0]
        archive = PackageArchive(url=location, hashes=hashes, subdirectory=subdirectory)
        return Package(name=normal, version=exact, archive=archive)
    path = unquote(parts.path) if parts.scheme == "file" else location
    if is_archive(path):
        archive = PackageArchive(path=path, hashes=hashes)
        return Package(name=normal, version=exact, archive=archive)
    folder = PackageDirectory(path=path, editable=editable)
    return Package(name=normal, version=exact, directory=folder)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
