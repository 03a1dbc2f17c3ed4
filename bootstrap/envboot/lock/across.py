"""Another platform than this machine's: `major.minor` kept, solved for here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from envboot.lock.answer import Answer
from envboot.lock.comparison import compare_added, compare_all
from envboot.lock.conda_packages import check_records
from envboot.lock.conda_solve import solve_records
from envboot.lock.index_lookup import open_lookup
from envboot.lock.pypi_solve import solve_again
from envboot.lock.wheels import Wheels, lock_wheels
from envboot.manifest import Python

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot.lock.request import LockRequest


def lock_across(request: LockRequest) -> Answer:
    """Solve the conda part, then the rest beside it.

    Raises:
        LockError: naming every package that must be there and cannot.
    """
    scan, target = request.scan, request.target
    check_records(scan.conda)
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
        found = lock_wheels(again.items, lookup=lookup, cache=request.session.cache)
        pypi = {item.name: item.version for item in request.from_indexes}
        there = {item.name: item.version for item in again.items}
        kept = {name: version for name, version in there.items() if name in pypi}
        new = {name: version for name, version in there.items() if name not in pypi}
        rows += compare_all("pypi", pypi, kept, again.reasons, needed)
        rows += compare_added(new, request.asked, needed)
    return Answer(python=python, conda=solved.packages, found=found, rows=rows)


def _find_provided(request: LockRequest, versions: Mapping[str, str]) -> set[str]:
    """Return the distributions that conda's packages bring: the known ones, and by their names."""
    known = {
        item.name for item in request.scan.distributions if item.conda and item.conda in versions
    }
    return known | set(map(canonicalize_name, versions))
