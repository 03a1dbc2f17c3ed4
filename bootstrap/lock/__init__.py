"""The lock: from what is here to exactly what must be there, without a solve."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap.errors import LISTED, LockError, name_some
from bootstrap.manifest import (
    PLATFORMS,
    PREFIX,
    Base,
    CondaPackage,
    Manifest,
    Python,
    parse_manifest,
)
from bootstrap.scan.document import Distribution, Problem, Scan, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootstrap.config import Settings
    from bootstrap.lock.plan import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is locked for: `linux-64` or `linux-aarch64`, and the oldest glibc it may have.

    `cuda` is the version that its driver runs (`12.4`), None without a GPU.
    With `host_python` an environment that is not conda's takes this machine's own interpreter.
    """

    platform: str
    glibc: str
    cuda: str | None = None
    host_python: bool
    prefix: str = PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """The base, the projects that the layer is built from, and what will not arrive as it is."""

    base: Base
    sources: tuple[Source, ...] = ()
    notes: tuple[Problem, ...] = ()
    rows: tuple[Row, ...] = ()


def lock(
    scan: Scan,
    *,
    target: Target,
    settings: Settings,
    cache: Path,
    fresh: bool = False,
    add: Sequence[str] = (),
    exact: frozenset[str] = frozenset(),
) -> Locked:
    """Find exact packages for the target: same versions, same builds, same hashes.

    The answer is kept in `cache` for 24 hours under the digest of the whole request, so the
    same one gives the same lock within milliseconds; `fresh` asks again.

    Raises:
        LockError: the platforms differ, or packages have no file for the target; every
            offender is named.
    """
    from bootstrap.lock.indexes import describe_indexes
    from bootstrap.lock.kept import keep_for_a_day

    _refuse_other_platforms(scan, target)
    question = {
        "scan": replace(scan, loose=(), problems=()).to_dict(),
        "target": asdict(target),
        "settings": {**asdict(settings), "store": None},
        "add": list(add),
        "exact": sorted(exact),
        "indexes": describe_indexes(os.environ, Path.cwd(), Path(scan.interpreter.prefix)),
    }
    answer = keep_for_a_day(
        cache / "locks",
        question,
        lambda: _to_dict(_lock(scan, target, settings, cache, fresh=fresh)),
        fresh=fresh,
    )
    return _from_dict(answer)


def _refuse_other_platforms(scan: Scan, target: Target) -> None:
    if target.platform not in PLATFORMS or scan.platform != target.platform:
        raise LockError(
            f"Cannot lock for `{target.platform}` from `{scan.platform}` yet",
            hint="Run envboot on a Linux machine of the same architecture as the guests",
        )
    if scan.interpreter.implementation.lower() != "cpython":
        raise LockError(
            f"Cannot lock for `{scan.interpreter.implementation}` yet, only for CPython"
        )


def _lock(scan: Scan, target: Target, settings: Settings, cache: Path, *, fresh: bool) -> Locked:
    from bootstrap.config import find_tool
    from bootstrap.indexes.packages import find_private, note_channels
    from bootstrap.lock.conda import lock_records, note_files, virtual_packages
    from bootstrap.lock.wheels import lock_wheels
    from bootstrap.scan.sources import find_sources

    _refuse_lost(scan)
    sources = tuple(find_sources(scan))
    conda = lock_records(scan.conda)
    python = _find_python(scan, target)
    found = lock_wheels(
        _from_pypi(scan.distributions, sources),
        platform=target.platform,
        glibc=target.glibc,
        version=python.version,
        python=scan.interpreter.executable,
        cache=cache,
    )
    if python.source == "conda" and not conda:
        conda = _solve_interpreter(python, target, settings, cache, fresh=fresh)
    private = find_private(conda, os.environ)
    names = [*(["micromamba"] if conda else []), *(["uv"] if found.wheels or not conda else [])]
    base = Base(
        platform=target.platform,
        python=python,
        prefix=target.prefix,
        virtual_packages=virtual_packages(target.platform, target.glibc),
        conda=conda,
        wheels=tuple(sorted(found.wheels, key=lambda wheel: wheel.name)),
        tools={name: find_tool(name, target.platform, settings) for name in names},
    )
    return Locked(
        base=base,
        sources=tuple(sorted((*sources, *found.sources), key=lambda source: source.name)),
        notes=(*_note_overwritten(scan), *note_files(conda), *note_channels(private), *found.notes),
    )


def _refuse_lost(scan: Scan) -> None:
    """Refuse what was built from something that is gone: an index's package of that name is not it.

    Raises:
        LockError: naming every such distribution.
    """
    from bootstrap.scan.sources import find_problems

    lost = find_problems(scan)
    if lost:
        plural = "packages" if len(lost) > 1 else "package"
        raise LockError(
            f"Cannot bring {len(lost)} {plural}: {name_some([item.subject for item in lost])}",
            causes=tuple(f"`{item.subject}`: {item.message}" for item in lost[:LISTED]),
            hint="Install them again from an index, from git or from a folder that stays",
        )


def _find_python(scan: Scan, target: Target) -> Python:
    """Say which interpreter the guest gets."""
    of_conda = [record.version for record in scan.conda if record.name == "python"]
    if of_conda:
        return Python(version=of_conda[0], source="conda")
    if target.host_python and not scan.conda:
        executable = os.path.realpath(scan.interpreter.base_executable)
        return Python(version=scan.interpreter.version, source="host", executable=executable)
    return Python(version=scan.interpreter.version, source="conda")


def _solve_interpreter(
    python: Python, target: Target, settings: Settings, cache: Path, *, fresh: bool
) -> tuple[CondaPackage, ...]:
    """Solve for the interpreter, once a day: another package must not bring another build."""
    from bootstrap.lock.conda import solve_python
    from bootstrap.lock.kept import keep_for_a_day

    question = {
        "python": python.version,
        "platform": target.platform,
        "glibc": target.glibc,
        "channels": list(settings.channels),
    }

    def solve() -> list[dict[str, Any]]:
        packages = solve_python(
            python.version,
            platform=target.platform,
            glibc=target.glibc,
            channels=settings.channels,
            cache=cache,
        )
        return [asdict(package) for package in packages]

    kept = keep_for_a_day(cache / "interpreters", question, solve, fresh=fresh)
    return tuple(CondaPackage(**package) for package in kept)


def _from_pypi(
    distributions: Sequence[Distribution], sources: Sequence[Source]
) -> list[Distribution]:
    """Return what pip or uv installed from an index, each name once (the first on the path)."""
    ours = {source.name for source in sources}
    found: dict[str, Distribution] = {}
    for item in distributions:
        if item.conda is None and item.name not in ours:
            found.setdefault(item.name, item)
    return list(found.values())


def _note_overwritten(scan: Scan) -> list[Problem]:
    """Name the conda packages that pip installed over: the guest does the same, in that order."""
    records = {record.name: record.version for record in scan.conda}
    return [
        Problem(
            subject=item.name,
            message=f"conda's {records[item.name]} is overwritten by {item.version} from PyPI",
        )
        for item in scan.distributions
        if item.conda is None and item.name in records
    ]


def _to_dict(locked: Locked) -> dict[str, Any]:
    return {
        "manifest": Manifest(base=locked.base).to_dict(),
        "sources": [asdict(source) for source in locked.sources],
        "notes": [asdict(note) for note in locked.notes],
    }


def _from_dict(document: dict[str, Any]) -> Locked:
    import json

    return Locked(
        base=parse_manifest(json.dumps(document["manifest"])).base,
        sources=tuple(Source(**source) for source in document["sources"]),
        notes=tuple(Problem(**note) for note in document["notes"]),
    )
