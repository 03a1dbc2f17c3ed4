"""PyPI distributions as exact wheels for the target, found by one call of uv."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bootstrap.errors import LISTED, LockError, name_some
from bootstrap.indexes import Indexes, PrivateWheel, note_private, open_indexes
from bootstrap.lock.tags import ARCH, choose_wheel, rank_tags
from bootstrap.manifest import Wheel
from bootstrap.scan.document import Distribution, Problem, Source
from bootstrap.scan.urls import redact, strip_url

if TYPE_CHECKING:
    from collections.abc import Sequence

PYPI_FILES = "files.pythonhosted.org"

# What `uv pip compile --python-platform` knows; a glibc between two of them takes the older.
_UV_GLIBC = (17, 28, *range(31, 41))
_NO_SOLUTION = "No solution found"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheels:
    """The wheels of the base, and wheel files of this machine that go into the layer."""

    wheels: tuple[Wheel, ...] = ()
    sources: tuple[Source, ...] = ()
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offence:
    """A distribution that has no wheel for the target, and what was seen."""

    pin: str
    seen: str
    sdist: bool = False


def lock_wheels(
    distributions: Sequence[Distribution],
    *,
    platform: str,
    glibc: str,
    version: str,
    python: str,
    cache: Path,
) -> Wheels:
    """Find URL and sha256 of the wheel of every distribution, none of them solved for.

    `version` is the Python version, `python` the path of the scanned interpreter. The indexes
    are those of uv's settings and, for what pip installed, of pip's. Wheels that guests have no
    login for are fetched into `cache`, and returned as sources.

    Raises:
        LockError: naming every distribution without a wheel for the target, or uv's failure.
    """
    if not distributions:
        return Wheels()
    # uv's own cut for the platform: it leaves out what the target cannot run.
    minor = max(known for known in _UV_GLIBC if known <= max(17, int(glibc.split(".")[1])))
    target = (version, f"{ARCH[platform]}-manylinux_2_{minor}", python)
    indexes = open_indexes(
        os.environ,
        Path.cwd(),
        prefix=Path(python).parent.parent,
        pip=any(item.installer == "pip" for item in distributions),
        probe=distributions[0].name,
    )
    packages, offences = _resolve([_pin(item) for item in distributions], target, indexes)
    ranks = rank_tags(platform, glibc, version)
    wheels, sources, private = [], [], []
    blamed = {offence.pin for offence in offences}
    for item in distributions:
        if _pin(item) in blamed:
            continue
        found = _choose(item, packages.get(item.name), ranks, indexes)
        if isinstance(found, _Offence):
            offences.append(found)
        elif isinstance(found, PrivateWheel):
            private.append(found)
        elif isinstance(found, Source):
            sources.append(found)
        else:
            wheels.append(found)
    if offences:
        raise _refuse(offences, platform, glibc)
    return Wheels(
        wheels=tuple(wheels),
        sources=(*sources, *indexes.bring(private, cache)),
        notes=(*_note_hosts(wheels), *note_private(private)),
    )


def find_uv() -> str:
    """Return the path of the uv that came with envboot; raises `LockError`."""
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise LockError(
            "Cannot find uv's program beside its Python package",
            causes=(str(error),),
            hint="Install it again with `pip install --force-reinstall uv`",
        ) from error


def _pin(item: Distribution) -> str:
    """Return the requirement of exactly this distribution."""
    url = (item.direct_url or {}).get("url", "")
    if urlsplit(url).scheme in ("http", "https"):
        return f"{item.name} @ {url}"
    return f"{item.name}=={item.version}"


def _resolve(
    pins: list[str], target: tuple[str, str, str], indexes: Indexes
) -> tuple[dict[str, dict[str, Any]], list[_Offence]]:
    """Look pins up, all in one call; a failing set is halved until every offender is known.

    uv stops at the first one that it cannot find, and users want to hear of all.
    """
    found, complaint = _compile(pins, target, indexes)
    if found is not None:
        return found, []
    if len(pins) == 1:
        return {}, [_Offence(pin=pins[0], seen=complaint, sdist="no usable wheels" in complaint)]
    middle = len(pins) // 2
    left, left_offences = _resolve(pins[:middle], target, indexes)
    right, right_offences = _resolve(pins[middle:], target, indexes)
    return {**left, **right}, left_offences + right_offences


def _compile(
    pins: list[str], target: tuple[str, str, str], indexes: Indexes
) -> tuple[dict[str, dict[str, Any]] | None, str]:
    """Run `uv pip compile`; returns the packages by name, or None and uv's complaint.

    `--only-binary` keeps any project's code from running here, and makes an sdist an offence.
    """
    version, platform, python = target
    command = [find_uv(), "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--format", "pylock.toml", "--no-header", "--color", "never"]
    command += ["--python", python, "--python-version", version, "--python-platform", platform]
    done = indexes.run_uv(command, pins)
    if done.returncode == 0:
        document = tomllib.loads(done.stdout)
        return {package["name"]: package for package in document.get("packages", ())}, ""
    lines = [redact(line.strip()) for line in done.stderr.splitlines() if line.strip()]
    if _NO_SOLUTION not in done.stderr:
        raise LockError(
            "Failed to look up wheels with uv",
            causes=tuple(line.removeprefix("error: ") for line in lines[:LISTED]),
            hint="Check the network and the indexes in uv's and pip's configuration",
        )
    cause = next((line for line in lines if line.startswith(("cause:", "╰─▶"))), lines[-1])
    return None, cause.removeprefix("cause:").removeprefix("╰─▶").strip()


def _choose(
    item: Distribution, package: dict[str, Any] | None, ranks: dict[str, int], indexes: Indexes
) -> Wheel | PrivateWheel | Source | _Offence:
    """Choose one of the wheels that the index has."""
    files = [] if package is None else list(package.get("wheels", ()))
    if package and "archive" in package:
        files.append(package["archive"])
    by_name: dict[str, dict[str, Any]] = {}
    for file in files:
        by_name.setdefault(_file_name(file), file)
    name = choose_wheel(by_name, ranks, item.tags)
    if name is None:
        seen = f"Found {name_some(sorted(by_name))}" if by_name else "Found no wheel at all"
        return _Offence(pin=_pin(item), seen=seen, sdist=True)
    file = by_name[name]
    location = file.get("url") or file.get("path", "")
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        path = url2pathname(parts.path) if parts.scheme else location
        return Source(name=item.name, version=item.version, path=path)
    sha256 = file.get("hashes", {}).get("sha256")
    if not sha256:
        seen = f"`{parts.hostname}` gives no sha256 of `{name}`"
        return _Offence(pin=_pin(item), seen=seen)
    if indexes.is_private(location):
        return PrivateWheel(
            name=item.name, version=item.version, file=name, url=location, sha256=sha256
        )
    return Wheel(
        name=item.name,
        version=item.version,
        sha256=sha256,
        url=None if parts.hostname == PYPI_FILES else strip_url(location),
    )


def _file_name(file: dict[str, Any]) -> str:
    """Return a pylock file entry's name: stated, or the last part of where it is."""
    if "name" in file:
        return str(file["name"])
    location = file.get("url") or file.get("path", "")
    return unquote(urlsplit(location).path.rpartition("/")[2])


def _note_hosts(wheels: list[Wheel]) -> tuple[Problem, ...]:
    """Say which machines besides PyPI's the guest will have to reach, and that it has no login."""
    by_host: dict[str, list[str]] = {}
    for wheel in wheels:
        if wheel.url:
            by_host.setdefault(urlsplit(wheel.url).netloc, []).append(wheel.name)
    return tuple(
        Problem(subject=host, message=f"Guests fetch {name_some(names)} here, without credentials")
        for host, names in sorted(by_host.items())
    )


def _refuse(offences: list[_Offence], platform: str, glibc: str) -> LockError:
    """Make one error of every offence."""
    pins = [redact(offence.pin) for offence in offences]
    plural = "packages have" if len(pins) > 1 else "package has"
    causes = [f"`{redact(offence.pin)}`: {offence.seen}" for offence in offences[:LISTED]]
    if len(offences) > LISTED:
        causes.append(f"{len(offences) - LISTED} more")
    if any(offence.sdist for offence in offences):
        hint = (
            "Build a wheel with `pip wheel --no-deps NAME==VERSION` and install that file: "
            "it then travels in the layer"
        )
    else:
        hint = (
            "Indexes are read from uv's settings (`UV_INDEX`, `uv.toml`, `[tool.uv]`) and, "
            "for what pip installed, from pip's (`PIP_EXTRA_INDEX_URL`, `pip.conf`)"
        )
    return LockError(
        f"{len(pins)} {plural} no wheel for `{platform}` with glibc {glibc}: {name_some(pins)}",
        causes=tuple(causes),
        hint=hint,
    )
