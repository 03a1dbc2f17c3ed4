"""The projects of an environment that only its own machine has, after PEP 610."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from envboot.scan.schema import Problem, Source

if TYPE_CHECKING:
    from envboot.scan.schema import Distribution, Scan

# What setuptools-scm and versioneer append: `1.0.dev3+g1a2b3c4`, `0+untagged.1.g1a2b3c4`.
_FROM_GIT = re.compile(r"\+(.*\.)?g[0-9a-f]{7,40}(\.|$)")

# PEP 440, appendix B. A notebook's Python, which scans itself, may lack `packaging`.
_VERSION = re.compile(
    r"v?([0-9]+!)?[0-9]+(\.[0-9]+)*"
    r"([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?[0-9]*)?"
    r"(-[0-9]+|[-_.]?(post|rev|r)[-_.]?[0-9]*)?"
    r"([-_.]?dev[-_.]?[0-9]*)?"
    r"(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)

# What pip and uv unpack, and what hosts of repositories (codeload.github.com) call their archives.
_ARCHIVE = re.compile(
    r"\.(zip|tar|tgz|tbz|txz|tar\.(gz|bz2|xz|lzma|zst))$"
    r"|/(legacy\.)?(zip|tar\.gz)/|/(zipball|tarball)(/|$)"
)


def is_archive(path: str) -> bool:
    """Whether the path of a URL is one of a packed source tree: an sdist, or a repository's."""
    return _ARCHIVE.search(path) is not None


def find_sources(scan: Scan) -> tuple[Source, ...]:
    """Return the projects that the client turns into wheels: editable, path, git, local files.

    A distribution from a wheel or an archive on the web is none: it is fetched from its URL, as
    others are from their index. What has vanished from this machine is left out; `find_problems`
    names it.
    """
    origins = (_find_origin(item) for item in scan.distributions)
    return tuple(origin for origin in origins if isinstance(origin, Source))


def find_problems(scan: Scan) -> tuple[Problem, ...]:
    """Return the distributions whose origin is gone, or does not say enough to build them."""
    origins = (_find_origin(item) for item in scan.distributions)
    return tuple(origin for origin in origins if isinstance(origin, Problem))


def _find_origin(item: Distribution) -> Source | Problem | None:
    """Return what a distribution was built from; None for an index's, conda's or the web's."""
    if item.conda:
        return None
    if item.direct_url is None:
        if not (item.system or _is_version(item.version)):
            return _problem(
                item, f"Version `{item.version}` is none that an index can have (PEP 440)"
            )
        return None
    direct: dict[str, Any] = item.direct_url
    try:
        parts = urlsplit(direct["url"])
    except ValueError:
        return _problem(item, f"Was installed from `{direct['url']}`, which is no URL")
    path = unquote(parts.path) if parts.scheme == "file" else None
    if path and not Path(path).exists():
        return _problem(item, f"Was installed from `{path}`, which is gone")
    if "vcs_info" in direct:
        return _find_git(item, direct)
    if path is None:
        if parts.path.endswith(".whl") or is_archive(parts.path) or "archive_info" in direct:
            return None
        return _problem(
            item,
            f"Was built from `{direct['url']}`, which is neither wheel nor archive: "
            "install it from a folder that stays, or from a wheel",
        )
    return Source(
        name=item.name,
        version=item.version,
        path=path,
        subdirectory=direct.get("subdirectory"),
        editable=item.editable,
    )


def _is_version(text: str) -> bool:
    return _VERSION.fullmatch(text.strip()) is not None


def names_commit(version: str) -> bool:
    """Whether a version may be a git commit's: nightly builds on indexes have such ones too."""
    return bool(_FROM_GIT.search(version))


def _find_git(item: Distribution, direct: dict[str, Any]) -> Source | Problem:
    vcs = direct["vcs_info"]
    if vcs.get("vcs") != "git":
        return _problem(
            item,
            f"Was installed from `{vcs.get('vcs')}+{direct['url']}`, and only git can be built "
            "from: install it from a folder with its checkout, or from a wheel",
        )
    if not vcs.get("commit_id"):
        return _problem(item, f"Was installed from `{direct['url']}` at an unknown commit")
    return Source(
        name=item.name,
        version=item.version,
        git=direct["url"],
        commit=vcs["commit_id"],
        subdirectory=direct.get("subdirectory"),
        editable=item.editable,
    )


def _problem(item: Distribution, message: str) -> Problem:
    return Problem(subject=item.name, message=message)
