"""This machine's own platform: what is here, without a solve."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from envboot.lock.answer import Answer
from envboot.lock.cache import keep_for_a_day
from envboot.lock.comparison import compare_added, compare_all, mark_replaced
from envboot.lock.conda_packages import lock_records, solve_python
from envboot.lock.index_lookup import open_lookup
from envboot.lock.pypi_solve import solve_added
from envboot.lock.wheels import Wheels, lock_wheels
from envboot.manifest import CondaPackage, Python
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.lock.request import LockRequest
    from envboot.lock.target import Target
    from envboot.scan.schema import Distribution, Scan
    from envboot.session import Session


def lock_exactly(request: LockRequest) -> Answer:
    """Lock the same versions, builds and hashes, and what is added to them; raises LockError."""
    scan, target, items = request.scan, request.target, request.from_indexes
    conda = lock_records(scan.conda)
    python = _find_python(scan, target)
    found = Wheels()
    added: Sequence[Distribution] = ()
    if items or request.add:
        lookup = open_lookup(request, python.version)
        added = solve_added(request, lookup)
        found = lock_wheels([*items, *added], lookup=lookup, cache=request.session.cache)
    here = {record.name: record.version for record in scan.conda}
    if python.source == "conda" and not conda:
        conda = solve_interpreter(python, target, request.session, fresh=request.fresh)
        here = {"python": scan.interpreter.version}
    there = {package.named.name: package.named.version for package in conda}
    pypi = {item.name: item.version for item in items}
    return Answer(
        python=python,
        conda=conda,
        found=found,
        rows=(
            *compare_all("conda", here, there, {}, "comes with the interpreter"),
            *mark_replaced(compare_all("pypi", pypi, pypi, {}, ""), found.replaced),
            *compare_added(
                {item.name: item.version for item in added},
                request.asked,
                "what is asked for needs it",
            ),
        ),
        notes=_note_overwritten(scan),
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


def solve_interpreter(
    python: Python, target: Target, session: Session, *, fresh: bool
) -> tuple[CondaPackage, ...]:
    """Solve for the interpreter, once a day: another package must not bring another build."""
    question = {
        "python": python.version,
        "platform": target.platform,
        "glibc": target.glibc,
        "channels": list(session.settings.channels),
    }

    def solve() -> list[dict[str, Any]]:
        packages = solve_python(
            python.version, session, platform=target.platform, glibc=target.glibc
        )
        return [asdict(package) for package in packages]

    kept = keep_for_a_day(session.cache / "interpreters", question, solve, fresh=fresh)
    return tuple(CondaPackage(**package) for package in kept)


def _note_overwritten(scan: Scan) -> tuple[Problem, ...]:
    """Name the conda packages that pip installed over: the guest does the same, in that order."""
    records = {record.name: record.version for record in scan.conda}
    return tuple(
        Problem(
            subject=item.name,
            message=f"conda's {records[item.name]} is overwritten by {item.version} from PyPI",
        )
        for item in scan.distributions
        if item.conda is None and item.name in records
    )
