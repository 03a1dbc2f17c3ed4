"""What of an environment goes to the machines: what stays here, and what is added. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envboot.errors import LISTED, LockError, UsageError, name_some
from envboot.lock.comparison import Row
from envboot.scan.dependencies import (
    describe,
    find_conflicts,
    find_extras,
    find_needed,
    is_active,
    list_unreadable,
    markers_of,
    parse_added,
    requirements_of,
)
from envboot.scan.loose import join_added
from envboot.scan.schema import CondaRecord, Distribution, Problem
from envboot.selection.platform_only import find_rule
from envboot.selection.required import find_required, refuse_missing
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from envboot.config import Settings
    from envboot.lock import Locked
    from envboot.lock.target import Target
    from envboot.scan.schema import Scan
    from envboot.selection import Selection

_IGNORED = "ignored"
_NOT_NEEDED = "not needed"
_REPLACED = "replaced by `--add`"
_OWN = "envboot's own, and used by nothing else; `tool.envboot.require` sends it"
CHOSEN = frozenset({_IGNORED, _NOT_NEEDED, _REPLACED, _OWN})
"""Reasons for which a package stays here because the user said so, or needs none of it."""
_SYSTEM = "of the operating system"


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """The scan without what stays here, and what is to be said about it.

    `ignored` are normalised names that nothing else may bring either, `add` are requirements of
    what is not installed here, `exact` the names (of distributions and of conda's packages) whose
    versions may not move on any platform, `rows` what stays here.
    """

    scan: Scan
    ignored: frozenset[str] = frozenset()
    add: tuple[str, ...] = ()
    exact: frozenset[str] = frozenset()
    notes: tuple[Problem, ...] = ()
    rows: tuple[Row, ...] = ()


def select(
    scan: Scan,
    selection: Selection,
    *,
    settings: Settings,
    target: Target,
    dask: bool = False,
    own: Collection[str] = (),
) -> Selected:
    """Leave out what the user ignores, what is another platform's and what the system owns.

    Names are compared as PEP 503 says. What a package needs stays when the package itself is
    ignored. `dask` says that the machines will run Dask. `own` are envboot and what nothing else
    needs (see `find_own`).

    Raises:
        UsageError: a name is not in the environment, or something to add is no requirement.
        LockError: a package that is needed is not there, or belongs to the operating system.
    """
    here = markers_of(scan.platform, scan.interpreter.version)
    there = markers_of(target.platform, scan.interpreter.version)
    added = parse_added((*settings.add, *selection.add))
    adding = {name: str(item) for name, item in added.items() if is_active(item.marker, there)}
    required = find_required(settings, dask=dask)
    left = _Left(scan)
    notes = [
        *_ignore(left, selection, settings),
        *_replace_installed(left, adding),
        *_leave_foreign(left, target.platform, adding),
        *_leave_system(left),
    ]
    left.leave(lambda item: _OWN if isinstance(item, Distribution) and item.name in own else None)
    if selection.only:
        roots = map(canonicalize_name, (*selection.only, *required))
        needed = find_needed(scan, roots, there)
        left.leave(lambda item: None if canonicalize_name(item.name) in needed else _NOT_NEEDED)
    kept = left.rest(loose=selection.loose)
    refuse_missing({*_names(kept), *adding}, required, left.reasons)
    if selection.only:
        notes += _note_extras(kept, there)
    _refuse_system(kept, selection.only, left.reasons, here, there)
    # The lock finds what stands for another platform's packages.
    reasons = {name: "" if name in left.foreign else why for name, why in left.reasons.items()}
    notes += find_conflicts(kept, dropped=reasons, added=adding, here=here, there=there)
    return Selected(
        scan=kept,
        ignored=frozenset(
            name for name, why in left.reasons.items() if why == _IGNORED and name not in adding
        ),
        add=tuple(adding.values()),
        exact=_find_exact(kept, required),
        notes=tuple(notes),
        rows=tuple(left.rows),
    )


def leave_ignored(locked: Locked, ignored: Collection[str]) -> Locked:
    """Return the lock without what is ignored."""
    if not ignored:
        return locked
    base = locked.base
    names = {item.url: canonicalize_name(item.named.name) for item in base.conda}
    return replace(
        locked,
        base=replace(
            base,
            conda=tuple(item for item in base.conda if names[item.url] not in ignored),
            wheels=tuple(item for item in base.wheels if item.name not in ignored),
        ),
        sources=tuple(item for item in locked.sources if item.name not in ignored),
        rows=tuple(row for row in locked.rows if canonicalize_name(row.name) not in ignored),
    )


class _Left:
    """What stays here. The first reason that a package is left for counts."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.rows: list[Row] = []
        self.reasons: dict[str, str] = {}
        """By the normalised name of a distribution or of a conda package."""
        self.foreign: set[str] = set()
        self._records: set[str] = set()
        self._distributions: set[str] = set()

    def leave(self, find: Callable[[CondaRecord | Distribution], str | None]) -> list[str]:
        """Leave what `find` has a reason for; returns the names. conda's go by their record."""
        names = []
        for record in self.scan.conda:
            if record.name not in self._records and (reason := find(record)):
                self._records.add(record.name)
                self._note(record.name, "conda", record.version, reason)
                names.append(record.name)
        for item in self.scan.distributions:
            if item.conda:
                if item.conda in self._records:
                    self.reasons.setdefault(item.name, self.reasons[canonicalize_name(item.conda)])
            elif item.name not in self._distributions and (reason := find(item)):
                self._distributions.add(item.name)
                source: Literal["pypi", "layer"] = "layer" if item.direct_url else "pypi"
                self._note(item.name, source, item.version, reason)
                names.append(item.name)
        return names

    def _note(
        self, name: str, source: Literal["conda", "pypi", "layer"], version: str, reason: str
    ) -> None:
        self.reasons.setdefault(canonicalize_name(name), reason)
        self.rows.append(
            Row(name=name, source=source, here=version, there=None, status="dropped", reason=reason)
        )

    def rest(self, *, loose: bool) -> Scan:
        """Return the scan of what goes."""
        conda = tuple(item for item in self.scan.conda if item.name not in self._records)
        distributions = tuple(
            item
            for item in self.scan.distributions
            if (
                item.conda not in self._records
                if item.conda
                else item.name not in self._distributions
            )
        )
        return replace(
            self.scan,
            conda=conda,
            distributions=distributions,
            loose=join_added(self.scan.loose, distributions) if loose else (),
            problems=tuple(item for item in self.scan.problems if item.subject not in self.reasons),
        )


def _names(scan: Scan) -> set[str]:
    """Return the normalised names of all distributions and conda packages."""
    records = {canonicalize_name(record.name) for record in scan.conda}
    return records | {item.name for item in scan.distributions}


def _reach(scan: Scan, names: Collection[str]) -> set[str]:
    """Return the packages that bear these names; a distribution of conda's is its package.

    conda's `graphviz` is the program, its `python-graphviz` the distribution `graphviz`: where a
    conda package has the name, that one is meant.
    """
    records = {canonicalize_name(record.name) for record in scan.conda}
    owners = {
        canonicalize_name(item.conda)
        for item in scan.distributions
        if item.conda and item.name in names and item.name not in records
    }
    return {*names, *owners}


def _ignore(left: _Left, selection: Selection, settings: Settings) -> list[Problem]:
    """Leave what is ignored; names of the settings may be those of another environment."""
    known = _names(left.scan)
    wrong = [
        f"`--{option} {name}`: {_describe_near(canonicalize_name(name), known)}"
        for option in ("ignore", "only")
        for name in getattr(selection, option)
        if canonicalize_name(name) not in known
    ]
    if wrong:
        raise UsageError(
            f"Expected names of packages that are in `{left.scan.interpreter.prefix}`",
            causes=tuple(wrong[:LISTED]),
            hint="`envboot scan` lists them",
        )
    names = {canonicalize_name(name) for name in (*selection.ignore, *settings.ignore)}
    if "python" in names:
        raise UsageError("Cannot ignore `python`: nothing would run without it")
    reached = _reach(left.scan, names)
    left.leave(lambda item: _IGNORED if canonicalize_name(item.name) in reached else None)
    return [
        Problem(
            subject="tool.envboot.ignore",
            message=f"`{name}` is not in the environment ({_describe_near(name, known)})",
        )
        for name in map(canonicalize_name, settings.ignore)
        if name not in known
    ]


def _describe_near(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, sorted(known))
    return f"similar: {name_some(near)}" if near else "nothing similar"


def _replace_installed(left: _Left, adding: Mapping[str, str]) -> list[Problem]:
    reached = _reach(left.scan, adding)
    names = left.leave(lambda item: _REPLACED if canonicalize_name(item.name) in reached else None)
    return [
        Problem(subject=name, message="Is installed here, and replaced by what `--add` asks for")
        for name in names
    ]


def _leave_foreign(left: _Left, platform: str, adding: dict[str, str]) -> list[Problem]:
    """Leave what exists on this platform only; `adding` gets what there is instead."""
    here = left.scan.platform
    if here == platform:
        return []
    known = _names(left.scan)

    def find(item: CondaRecord | Distribution) -> str | None:
        conda = isinstance(item, CondaRecord)
        rule = find_rule(item.name, conda=conda, here=here, there=platform)
        if rule is None:
            return None
        left.foreign.add(canonicalize_name(item.name))
        if rule.instead:
            minor = ".".join(item.version.split(".")[:2])
            instead = Requirement(rule.instead.format(minor=minor))
            if instead.name not in known:
                adding.setdefault(instead.name, str(instead))
            return f"{rule.reason}; `{instead}` instead"
        return rule.reason

    names = left.leave(find)
    return [
        Problem(subject=name, message=f"Stays here: {left.reasons[canonicalize_name(name)]}")
        for name in names
    ]


def _leave_system(left: _Left) -> list[Problem]:
    names = left.leave(
        lambda item: _SYSTEM if isinstance(item, Distribution) and item.system else None
    )
    return [
        Problem(subject=name, message="Stays here: the operating system's package manager owns it")
        for name in names
    ]


def _refuse_system(
    kept: Scan,
    only: Collection[str],
    reasons: Mapping[str, str],
    *markers: Mapping[str, str],
) -> None:
    """Refuse to leave behind what a package that goes needs.

    Raises:
        LockError: naming every distribution of the operating system that is needed.
    """
    if _SYSTEM not in reasons.values():
        return
    needed = {str(canonicalize_name(name)): f"`--only {name}` asks for it" for name in only}
    for item in kept.distributions:
        for name, requirement in requirements_of(item, *markers):
            needed.setdefault(name, f"`{item.name}` needs `{describe(requirement)}`")
    owned = [name for name in needed if reasons.get(name) == _SYSTEM]
    if owned:
        raise LockError(
            f"Cannot bring {count(len(owned), 'package')} of the operating system: "
            f"{name_some(owned)}",
            causes=tuple(f"`{name}`: {needed[name]}" for name in owned[:LISTED]),
            hint="Install them into the environment (`pip install --ignore-installed NAME`), "
            "bring them with `--add NAME`, or go without with `--ignore NAME`",
        )


def _note_extras(kept: Scan, markers: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(
            subject=text,
            message=f"Is needed by {name_some(users)}; name with `--only` what the extra brings",
        )
        for text, users in find_extras(kept, markers).items()
    ] + [
        Problem(
            subject=item.name,
            message=f"Cannot read its requirement `{text:.80}`; name with `--only` what it needs",
        )
        for item in kept.distributions
        for text in list_unreadable(item)
    ]


def _find_exact(kept: Scan, required: Collection[str]) -> frozenset[str]:
    """Return names of the required packages: as distributions and as conda's packages."""
    reached = _reach(kept, required)
    records = {record.name for record in kept.conda if canonicalize_name(record.name) in reached}
    return frozenset({item.name for item in kept.distributions if item.name in required} | records)
