"""`pylock.toml` (PEP 751), read by the packaging library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError

from envboot.lockfiles.content import (
    Content,
    LockFileRequest,
    refuse,
    refuse_names,
    refuse_platform,
)
from envboot.lockfiles.interpreters import choose_python
from envboot.scan.dependencies import markers_of
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.markers import Marker


def read_pylock(request: LockFileRequest) -> Content:
    """Read the packages of the default groups, and of the groups and extras that are named."""
    lock = parse_pylock(request, request.text)
    extras, groups = list(lock.extras or ()), list(lock.dependency_groups or ())
    unknown = [name for name in request.names if name not in (*extras, *groups)]
    if unknown:
        refuse_names(request, unknown, [*extras, *groups])
    python = choose_python(request, lock.requires_python)
    environment: dict[str, Any] = {
        **markers_of(request.target.platform, python.version),
        "extras": frozenset(name for name in request.names if name in extras),
        "dependency_groups": frozenset((*(lock.default_groups or ()), *request.names)),
    }
    if lock.environments and not any(_holds(marker, environment) for marker in lock.environments):
        refuse_platform(request, [str(marker) for marker in lock.environments])
    packages = [package for package in lock.packages if _holds(package.marker, environment)]
    _refuse_doubles(request, packages)
    wrong = [
        f"`{package.name}` wants Python `{package.requires_python}`, found {python.version}"
        for package in packages
        if package.requires_python
        and not package.requires_python.contains(python.version, prereleases=True)
    ]
    if wrong:
        refuse(request, *wrong, hint="Name another interpreter with `--python`")
    return Content(python=python, packages=packages)


def parse_pylock(request: LockFileRequest, text: str) -> Pylock:
    """Check a document against the specification; refuses it with the dotted path."""
    try:
        return Pylock.from_dict(parse_toml(request, text))
    except PylockUnsupportedVersionError as error:
        refuse(request, str(error), hint="Upgrade envboot, or lock as version 1.0")
    except PylockValidationError as error:
        refuse(request, str(error))


def parse_toml(request: LockFileRequest, text: str) -> dict[str, Any]:
    """Decode TOML; refuses it with line and column."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        refuse(request, f"Expected TOML: {error}")


def _holds(marker: Marker | None, environment: dict[str, Any]) -> bool:
    return marker is None or marker.evaluate(cast("Any", environment), context="lock_file")


def _refuse_doubles(request: LockFileRequest, packages: Sequence[Package]) -> None:
    seen: dict[str, list[str]] = {}
    for package in packages:
        seen.setdefault(package.name, []).append(str(package.version))
    doubles = [
        f"`{name}` is there as {' and '.join(versions)} for the same machine"
        for name, versions in seen.items()
        if len(versions) > 1
    ]
    if doubles:
        refuse(request, *doubles)
