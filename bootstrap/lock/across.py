"""Another platform than this machine's: `major.minor` kept, solved for here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from bootstrap.lock import Answer, Request
from bootstrap.lock.lookup import open_lookup
from bootstrap.lock.plan import Row, compare, compare_all
from bootstrap.lock.records import solve_records
from bootstrap.lock.requirements import ADDED, solve_again
from bootstrap.lock.wheels import Wheels, lock_wheels
from bootstrap.manifest import Python

if TYPE_CHECKING:
    from collections.abc import Mapping


def lock_across(request: Request) -> Answer:
    """Solve the conda part, then the rest beside it.

    Raises:
        LockError: naming every package that must be there and cannot.
    """
    scan, target = request.scan, request.target
    solved = solve_records(request)
    here = {record.name: record.version for record in scan.conda}
    here = here or {"python": scan.interpreter.version}
    python = Python(version=solved.versions["python"], source="conda")
    needed = f"is needed on `{target.platform}`"
    rows = compare_all("conda", here, solved.versions, solved.reasons, needed)
    found = Wheels()
    if request.from_indexes or request.add:
        lookup = open_lookup(request, python.version)
        again = solve_again(request, lookup, _find_provided(request, solved.versions))
        found = lock_wheels(again.items, lookup=lookup, cache=request.cache)
        pypi = {item.name: item.version for item in request.from_indexes}
        there = {item.name: item.version for item in again.items}
        rows += _compare(pypi, there, again.reasons, needed if not request.add else ADDED)
    return Answer(python=python, conda=solved.packages, found=found, rows=rows)


def _find_provided(request: Request, versions: Mapping[str, str]) -> set[str]:
    """Return the distributions that conda's packages bring: the known ones, and by their names."""
    known = {
        item.name for item in request.scan.distributions if item.conda and item.conda in versions
    }
    return known | set(map(canonicalize_name, versions))


def _compare(
    here: Mapping[str, str], there: Mapping[str, str], reasons: Mapping[str, str], added: str
) -> tuple[Row, ...]:
    return tuple(
        compare(name, "pypi", here[name], there.get(name), reasons.get(name))
        if name in here
        else Row(name=name, source="added", there=there[name], status="added", reason=added)
        for name in sorted({*here, *there})
    )
