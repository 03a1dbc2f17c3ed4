"""Conda packages for another platform: solved for on the channels that they came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from envboot.errors import LISTED, LockError, name_some
from envboot.lock.cache import keep_for_a_day
from envboot.lock.conda_packages import order_records
from envboot.lock.fit import NoSolution, fit_pins, rank_needs
from envboot.lock.solver import OpenChannels, open_channels
from envboot.manifest import CondaPackage
from envboot.redaction import strip_channel
from envboot.scan.dependencies import depends_of
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rattler import RepoDataRecord

    from envboot.lock.request import LockRequest
    from envboot.scan.schema import CondaRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SolvedConda:
    """Packages with their versions by name, and why another version, or none, is there."""

    packages: tuple[CondaPackage, ...]
    versions: Mapping[str, str]
    reasons: Mapping[str, str]


def solve_records(request: LockRequest) -> SolvedConda:
    """Solve for the environment's conda packages, or for its interpreter alone.

    `major.minor` of every package is kept, and the patch version where that can be. What nothing
    else needs, the interpreter and what is in `exact` must be there; what came along gives way
    where it does not fit: first exact patches, then what is needed farthest from the roots.

    Raises:
        LockError: naming every package that must be there and cannot, or that no channel answers.
    """
    scan = request.scan
    urls = find_channels(scan.conda) or request.session.settings.channels
    records = [
        (record.name, record.version, sorted({name for name, _ in depends_of(record)}))
        for record in sorted(scan.conda, key=lambda record: record.name)
    ] or [("python", scan.interpreter.version, [])]
    python = {item.conda for item in scan.distributions if item.conda}
    question = {
        "records": records,
        "python": sorted(python),
        "channels": [strip_channel(url) for url in urls],
        "exact": sorted(request.exact),
        "target": asdict(request.target),
    }

    def answer() -> dict[str, Any]:
        with open_channels(urls, request.target, request.session) as channels:
            wish = _Wish(records=records, python=python, request=request, channels=channels)
            return wish.solve()

    kept = keep_for_a_day(request.session.cache / "solves", question, answer, fresh=request.fresh)
    return SolvedConda(
        packages=tuple(CondaPackage(**package) for package in kept["packages"]),
        versions=kept["versions"],
        reasons=kept["reasons"],
    )


def find_channels(records: Sequence[CondaRecord]) -> tuple[str, ...]:
    """Return the channels that records came from, the one with the most records first.

    No other one is asked: Anaconda's, for one, has terms that its user must have accepted.
    """
    counts = Counter(
        record.url.partition("#")[0].rpartition("/")[0].rpartition("/")[0] for record in records
    )
    return tuple(sorted(counts, key=lambda url: (-counts[url], url)))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wish:
    """Name, version and needs of every record, and which of them are Python packages."""

    records: Sequence[tuple[str, str, Sequence[str]]]
    python: set[str]
    request: LockRequest
    channels: OpenChannels

    def solve(self) -> dict[str, Any]:
        known = {str(canonicalize_name(name)): name for name, _, _ in self.records}
        needs = {
            name: {known[other] for other in others if other in known}
            for name, _, others in self.records
        }
        ranks = rank_needs(needs)
        here = {name: version for name, version, _ in self.records}
        there = self.channels.find_versions(list(here))
        exact = {name for name in here if name in self.request.exact}
        roots = {name for name in here if ranks[name] == 0} | exact | {"python"}
        order = sorted(here, key=lambda name: (ranks[name], name))
        pins = {name: f"{name} {_minor(here[name])}" for name in order}
        pins |= {name: f"{name} =={here[name]}" for name in exact}
        patches = {
            f"{name} =={here[name]}": name
            for name in order
            if name not in exact and here[name] in there.get(name, ())
        }
        minors = {
            pins[name]: name
            for name in order
            if name not in roots and _has_minor(there.get(name, ()), here[name])
        }
        # What is not Python's comes along where it is needed, or not at all.
        names = {**patches, **minors}
        along = {
            pin for pin, name in names.items() if name not in roots and name not in self.python
        }

        def solve(specs: Sequence[str]) -> list[RepoDataRecord] | NoSolution:
            return self.channels.solve(
                [spec for spec in specs if spec not in along],
                [spec for spec in specs if spec in along],
            )

        must = [pins[name] for name in order if name in roots]
        fit = fit_pins(must, [*minors, *patches], solve)
        if fit.solution is None:
            raise self._refuse(fit.refused)
        versions = {record.name.normalized: str(record.version) for record in fit.solution}
        reasons = {
            name: _explain(version, versions.get(name), there.get(name, set()), self._where)
            for name, version in here.items()
            if versions.get(name) != version
        }
        return {
            "packages": [asdict(package) for package in order_records(fit.solution)],
            "versions": versions,
            "reasons": reasons,
        }

    @property
    def _where(self) -> str:
        return f"`{self.request.target.platform}`"

    def _refuse(self, refused: Mapping[str, str]) -> LockError:
        pins = list(refused)
        names = [pin.partition(" ")[0] for pin in pins]
        shown = name_some([strip_channel(url) for url in self.channels.urls])
        python = names[0] == "python"
        return LockError(
            f"Cannot find {count(len(pins), 'conda package')} for {self._where} in {shown}: "
            f"{name_some(pins)}",
            causes=tuple(f"`{pin}`: {words}" for pin, words in refused.items())[:LISTED],
            hint="Make the environment with a Python that is there, or add a channel to "
            "`channels` in `[tool.envboot]`"
            if python
            else f"Go without, with `--ignore {names[0]}`, or install a version here that exists "
            "there",
        )


def _explain(here: str, there: str | None, known: set[str], where: str) -> str:
    """Say why a package has another version there, or none."""
    if not known:
        return f"is not there for {where}"
    if there is None:
        return f"nothing needs it on {where}"
    if here in known:
        return f"{here} does not fit the rest on {where}"
    minor = ".".join(here.split(".")[:2])
    if _has_minor(known, here):
        is_patch = there.split(".")[:2] == here.split(".")[:2]
        return (
            f"{here} is not there for {where}"
            if is_patch
            else f"{minor} does not fit the rest on {where}"
        )
    return f"{minor} is not there for {where}"


def _has_minor(known: Collection[str], wanted: str) -> bool:
    return any(version.split(".")[:2] == wanted.split(".")[:2] for version in known)


def _minor(version: str) -> str:
    parts = version.split(".")
    return f"{parts[0]}.{parts[1]}.*" if len(parts) > 1 else f"=={version}"
