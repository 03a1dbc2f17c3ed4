"""Conda's explicit lists and `conda-lock.yml`, and what all files of conda packages share."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import yaml

from envboot.conda_names import parse_name
from envboot.documents import Node
from envboot.errors import DocumentError
from envboot.lock.conda_packages import sort_dependencies_first
from envboot.lockfiles.content import (
    Content,
    LockFileRequest,
    refuse,
    refuse_names,
    refuse_platform,
)
from envboot.lockfiles.entries import make_entry
from envboot.manifest import CondaPackage, Python
from envboot.redaction import strip_channel
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Package

_HASH = re.compile(r"(?:(?:md5|sha256):)?([0-9a-f]{64}|[0-9a-f]{32})", re.IGNORECASE)
_PIP = re.compile(r"# pip\s+(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*@\s*(?P<url>\S+)")
_PIP_SHA256 = re.compile(r"[#&]sha256=([0-9a-fA-F]{64})(?:&|$)")
_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
_VERSION = re.compile(r"3\.\d+\.\d+[a-z0-9.]*")
_SCHEMES = ("http", "https", "file", "s3")


def read_explicit(request: LockFileRequest) -> Content:
    """Read an `@EXPLICIT` list; every URL needs its md5 or sha256 behind `#`.

    conda-lock writes packages of PyPI into it as comments, `# pip NAME @ URL#sha256=…`, which
    conda passes over; conda-lock and micromamba install them.
    """
    if request.names:
        refuse_names(request, request.names, [])
    entries, packages, wrong = [], [], []
    for number, line in enumerate(map(str.strip, request.text.splitlines()), 1):
        if line.startswith("# pip "):
            found = _PIP.fullmatch(line)
            if not found:
                wrong.append(f"Line {number}: expected `# pip NAME @ URL`, found `{line:.80}`")
                continue
            sha256 = _PIP_SHA256.search(found["url"])
            packages.append(
                make_entry(found["name"], "", found["url"], sha256[1].lower() if sha256 else None)
            )
        elif line and not line.startswith(("#", "@")):
            url, _, fragment = line.partition("#")
            hashed = _HASH.fullmatch(fragment.strip())
            value = hashed[1].lower() if hashed else ""
            url = _locate(url.strip(), request.session.folder)
            entries.append((url, {"md5" if len(value) == 32 else "sha256": value}))
    if wrong:
        refuse(request, *wrong)
    return assemble_conda(request, entries, packages)


def _locate(url: str, folder: Path) -> str:
    """Return the URL of a package; conda takes paths too, relative to the working directory."""
    if "://" in url or not parse_name(url):
        return url
    return f"file://{quote(os.path.normpath(folder / url))}"


def read_conda_lock(request: LockFileRequest) -> Content:
    """Read the category `main` of a `conda-lock.yml`, and the categories that are named."""
    try:
        return _read_conda_lock(Node(parse_yaml(request), ""), request)
    except DocumentError as error:
        refuse(request, error.message)


def _read_conda_lock(document: Node, request: LockFileRequest) -> Content:
    version = document.take("version", int)
    if version != 1:
        refuse(request, f"Expected `version` 1, found `{version}`")
    by_platform: dict[str, list[Node]] = {}
    for node in document.children("package"):
        by_platform.setdefault(node.take("platform", str), []).append(node)
    if request.target.platform not in by_platform:
        refuse_platform(request, list(by_platform))
    known = set()
    # A package of several categories stands there once for each.
    conda: dict[str, tuple[str, dict[str, str]]] = {}
    needs: dict[str, list[str]] = {}
    pypi: dict[str, Package] = {}
    for node in by_platform[request.target.platform]:
        category = node.find("category") or "main"
        known.add(category)
        if category not in ("main", *request.names):
            continue
        url, hashes = node.take("url", str), node.child("hash")
        if node.take("manager", str, re.compile("conda|pip")) == "conda":
            conda[url] = url, {kind: hashes.find(kind) or "" for kind in _HEX}
            found = parse_name(url)
            if found and node.has("dependencies"):
                needs[found.name] = list(node.take("dependencies", dict))
        else:
            name, number = node.take("name", str), node.take("version", str)
            pypi[url] = make_entry(name, number, url, hashes.find("sha256"))
    unknown = [name for name in request.names if name not in known]
    if unknown:
        refuse_names(request, unknown, sorted(known))
    return assemble_conda(request, sort_entries([*conda.values()], needs), list(pypi.values()))


def sort_entries(
    entries: Sequence[tuple[str, Mapping[str, str]]], needs: Mapping[str, Sequence[str]]
) -> list[tuple[str, Mapping[str, str]]]:
    """Return conda packages, each after those that it needs; `needs` has specs by name."""
    ranks = {name: rank for rank, name in enumerate(sort_dependencies_first(needs))}

    def rank(entry: tuple[str, Mapping[str, str]]) -> int:
        found = parse_name(entry[0])
        return ranks.get(found.name, -1) if found else -1

    return sorted(entries, key=rank)


def parse_yaml(request: LockFileRequest) -> Any:
    """Decode YAML; refuses it with line and column."""
    try:
        # libyaml's is ten times as fast, and locks are long.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return yaml.load(request.text, Loader=loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        refuse(request, f"Expected YAML: {getattr(error, 'problem', None) or error}{where}")


def assemble_conda(
    request: LockFileRequest,
    entries: Sequence[tuple[str, Mapping[str, str]]],
    packages: Sequence[Package] = (),
) -> Content:
    """Check conda packages (URLs and their hashes) together; Python is one of them.

    They are installed in the order in which they are given.

    Raises:
        LockError: URLs that are none, have no hash or are of another platform; names that are
            there twice; or no Python.
    """
    wrong, subdirs, versions = [], [], {}
    conda: dict[str, CondaPackage] = {}
    for url, hashes in entries:
        shown, parts = strip_channel(url), urlsplit(url)
        found = parse_name(url)
        kind = next((kind for kind in _HEX if _HEX[kind].fullmatch(hashes.get(kind, ""))), None)
        if not found or parts.scheme not in _SCHEMES:
            wrong.append(f"Expected the URL of a conda package, found `{shown:.200}`")
        elif kind is None:
            wrong.append(f"`{shown}` has neither sha256 nor md5")
        elif found.name in conda:
            wrong.append(f"`{found.name}` is there twice")
        else:
            subdirs.append(parts.path.rpartition("/")[0].rpartition("/")[2])
            versions[found.name] = found.version, found.build
            conda[found.name] = CondaPackage(url=shown, **{kind: hashes[kind]})
    foreign = [subdir for subdir in subdirs if subdir not in (request.target.platform, "noarch")]
    if foreign:
        refuse_platform(request, foreign)
    if wrong:
        refuse(request, *wrong, hint="`conda list --explicit --md5` writes hashes")
    version, build = versions.get("python", ("", ""))
    if not _VERSION.fullmatch(version) or build.endswith("pypy"):
        seen = f"`{version}` with build `{build}`" if version else "none"
        refuse(request, f"Expected CPython as conda package `python`, found {seen}")
    return Content(
        python=Python(version=version, source="conda"),
        conda=tuple(conda.values()),
        packages=packages,
        notes=note_logins([url for url, _ in entries]),
    )


def note_logins(urls: Sequence[str]) -> tuple[Problem, ...]:
    """Say which hosts a file has logins for: they go nowhere."""
    hosts = {
        urlsplit(strip_channel(url)).netloc
        for url in urls
        if strip_channel(url) != url.partition("#")[0]
    }
    message = (
        "The login in the lock file is left out: keep it in conda's own configuration, "
        "and packages of that channel travel in the bucket"
    )
    return tuple(Problem(subject=host, message=message) for host in sorted(hosts))
