"""What comes from indexes and is not here as it is: solved by uv for the target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envboot.errors import LISTED, LockError, name_some
from envboot.indexes.fingerprint import describe_indexes
from envboot.lock.cache import keep_for_a_day
from envboot.lock.fit import Fit, NoSolution, fit_pins, rank_needs
from envboot.lock.tags import wheel_tags
from envboot.scan.dependencies import markers_of, requirements_of
from envboot.scan.schema import Distribution
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from envboot.lock.index_lookup import Lookup, Packages
    from envboot.lock.request import LockRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class SolvedPypi:
    """Exact distributions for the target, and why others have another version or are not there."""

    items: tuple[Distribution, ...]
    reasons: Mapping[str, str]


def solve_added(request: LockRequest, lookup: Lookup) -> tuple[Distribution, ...]:
    """Solve for what is added to an environment that stays as it is.

    Raises:
        LockError: naming every requirement that has no solution beside what is here.
    """
    if not request.add:
        return ()
    here = {item.name: item.version for item in request.scan.distributions}
    ours = {source.name for source in request.sources}
    # A build of its own (`+cu124`) is on no index that uv would ask for what comes along.
    ours |= {name for name, version in here.items() if "+" in version}
    constraints = [f"{name}=={here[name]}" for name in sorted(set(here) - ours)]
    fit = _solve(
        request,
        lookup,
        request.add,
        [],
        {},
        exclude=ours | request.ignored,
        constraints=constraints,
    )
    if fit.solution is None:
        raise _refuse(request, fit.refused)
    return _distributions(
        {name: version for name, version in fit.solution.items() if name not in here}, {}
    )


def solve_again(request: LockRequest, lookup: Lookup, provided: Collection[str]) -> SolvedPypi:
    """Solve for everything that came from an index, `major.minor` kept; the patch if possible.

    `provided` are the distributions that conda's packages bring. What nothing else needs, and
    what is in `exact`, must be there; what came along gives way where it does not fit: first
    what is needed farthest from the roots.

    Raises:
        LockError: naming every package that must be there and cannot.
    """
    scan, target = request.scan, request.target
    here = markers_of(scan.platform, scan.interpreter.version)
    there = markers_of(target.platform, lookup.version)
    needs = {
        item.name: {name for name, _ in requirements_of(item, here)} for item in scan.distributions
    }
    ranks = rank_needs(needs)
    items = {item.name: item for item in request.from_indexes}
    ours = {source.name for source in request.sources}
    pins = {name: _pin(item, lookup, exact=name in request.exact) for name, item in items.items()}
    must = [name for name in sorted(items) if ranks[name] == 0 or name in request.exact]
    rest = sorted(set(items) - set(must), key=lambda name: (ranks[name], name))
    # A project of this machine may need there what it does not need here.
    wanted = sorted(
        {
            f"{requirement.name}{_extras(requirement.extras)}{requirement.specifier}"
            for item in scan.distributions
            if item.name in ours
            for name, requirement in requirements_of(item, there)
            if name not in ours and name not in items and not requirement.url
        }
    )
    fit = _solve(
        request,
        lookup,
        [*request.add, *(pins[name] for name in must)],
        [*wanted, *(pins[name] for name in rest)],
        {name: item.version for name, item in items.items()},
        exclude=(set(provided) | ours | request.ignored) - set(items),
    )
    if fit.solution is None:
        raise _refuse(request, fit.refused)
    reasons = {
        name: _explain(item, fit.solution.get(name), fit.refused.get(pins[name]), target.platform)
        for name, item in items.items()
        if fit.solution.get(name) != item.version
    }
    urls = {name: items[name] for name, pin in pins.items() if " @ " in pin}
    return SolvedPypi(items=_distributions(fit.solution, urls), reasons=reasons)


def _distributions(
    versions: Mapping[str, str], as_they_are: Mapping[str, Distribution]
) -> tuple[Distribution, ...]:
    return tuple(
        as_they_are.get(name) or Distribution(name=name, version=version, location="")
        for name, version in sorted(versions.items())
    )


def _solve(
    request: LockRequest,
    lookup: Lookup,
    must: Sequence[str],
    wishes: Sequence[str],
    prefer: Mapping[str, str],
    *,
    exclude: Collection[str],
    constraints: Sequence[str] = (),
) -> Fit[dict[str, str]]:
    """Solve, once a day: an edit of a project must not bring other versions."""
    session = request.session
    question = {
        "must": list(must),
        "wishes": list(wishes),
        "prefer": dict(prefer),
        "exclude": sorted(exclude),
        "constraints": list(constraints),
        "target": asdict(request.target),
        "python": lookup.version,
        "torch": lookup.torch.index,
        "indexes": describe_indexes(
            session.environment, session.folder, Path(request.scan.interpreter.prefix)
        ),
    }

    def solve(pins: Sequence[str]) -> Packages | NoSolution:
        if not pins:
            return {}
        return lookup.solve(pins, prefer=prefer, exclude=sorted(exclude), constraints=constraints)

    def answer() -> dict[str, Any]:
        fit = fit_pins(must, wishes, solve)
        versions = None
        if fit.solution is not None:
            versions = {
                name: str(package.get("version") or prefer[name])
                for name, package in fit.solution.items()
            }
        return {"versions": versions, "refused": dict(fit.refused)}

    kept = keep_for_a_day(session.cache / "solves", question, answer, fresh=request.fresh)
    return Fit(solution=kept["versions"], refused=kept["refused"])


def _explain(item: Distribution, there: str | None, words: str | None, platform: str) -> str:
    """Say why a distribution has another version there, or none; `words` refused its pin."""
    if words and "was not found" in words:
        return f"is on no index for `{platform}`"
    version, minor = item.version, ".".join(item.version.split(".")[:2])
    if words:
        return f"{minor} is not there for `{platform}`, or does not fit the rest"
    if there and there.partition("+")[0] == version.partition("+")[0]:
        return "is the build that is right for these machines"
    return f"{version} is not there for `{platform}`"


def _pin(item: Distribution, lookup: Lookup, *, exact: bool) -> str:
    """Return the requirement that stands for a distribution on another platform."""
    url = (item.direct_url or {}).get("url", "")
    if url.startswith(("http://", "https://")) and any(
        tag in lookup.ranks for tag in wheel_tags(url.rpartition("/")[2])
    ):
        return f"{item.name} @ {url}"
    # Which build (`+cpu`) is right is the target's affair.
    version = item.version.partition("+")[0]
    try:
        parsed = Version(version)
    except InvalidVersion:
        return f"{item.name}==={item.version}"
    if exact or parsed.is_prerelease:
        return f"{item.name}=={version}"
    epoch = f"{parsed.epoch}!" if parsed.epoch else ""
    return f"{item.name}=={epoch}{parsed.major}.{parsed.minor}.*"


def _extras(extras: Collection[str]) -> str:
    return f"[{','.join(sorted(extras))}]" if extras else ""


def _refuse(request: LockRequest, refused: Mapping[str, str]) -> LockError:
    pins = list(refused)
    names = [str(canonicalize_name(pin.partition("=")[0].strip())) for pin in pins]
    causes = tuple(f"`{pin}`: {words}" for pin, words in refused.items())[:LISTED]
    is_here = request.scan.platform == request.target.platform
    where = f"`{request.target.platform}`" + (" beside what is here" if is_here else "")
    return LockError(
        f"Cannot find {count(len(pins), 'package')} for {where}: {name_some(pins)}",
        causes=causes,
        hint=f"Go without, with `--ignore {names[0]}`, or install a version here that exists there"
        if pins[0] not in request.add
        else "Ask for other versions with `--add`",
    )
