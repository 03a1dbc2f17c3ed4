"""The lock: from what is here to exactly what must be there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot.errors import LISTED, LockError, name_some
from envboot.lock.request import LockRequest
from envboot.manifest import Base, Manifest, parse_manifest
from envboot.platforms import TARGETS
from envboot.scan.schema import Problem, Scan, Source
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.lock.answer import Answer
    from envboot.lock.comparison import Row
    from envboot.lock.target import Target
    from envboot.session import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """The base, the projects that the layer is built from, and what will not arrive as it is."""

    base: Base
    sources: tuple[Source, ...] = ()
    notes: tuple[Problem, ...] = ()
    rows: tuple[Row, ...] = ()


def lock(
    scan: Scan,
    session: Session,
    *,
    target: Target,
    fresh: bool = False,
    add: Sequence[str] = (),
    exact: frozenset[str] = frozenset(),
    ignored: frozenset[str] = frozenset(),
) -> Locked:
    """Find exact packages for the target.

    For this machine's own platform: same versions, same builds, same hashes. For another one,
    solved for here: `major.minor` of every package stays, and the whole version of those in
    `exact`. `add` are requirements of what is not installed here. What is `ignored`, by normalised
    name, is no longer in the scan, and no solve of PyPI's packages brings it back.

    The answer is kept in the session's cache for 24 hours under the digest of the whole request,
    so the same one gives the same lock within milliseconds; `fresh` asks again.

    Raises:
        LockError: packages cannot be had for the target; every offender is named.
    """
    from envboot.indexes.fingerprint import describe_indexes
    from envboot.lock.cache import keep_for_a_day
    from envboot.scan.projects import find_sources

    _refuse_target(scan, target)
    question = {
        # Part of what a kept lock is named by: change it when the same scan gives another one.
        "format": 2,
        "scan": replace(scan, loose=(), problems=(), sizes=()).to_dict(),
        "target": asdict(target),
        # Where things are kept, and what of the user's own code travels, is no matter of the lock.
        "settings": asdict(
            replace(
                session.settings, store=None, exclude=(), include=(), loose_limit=0, strict=False
            )
        ),
        "add": list(add),
        "exact": sorted(exact),
        "ignored": sorted(ignored),
        "indexes": describe_indexes(
            session.environment, session.folder, Path(scan.interpreter.prefix)
        ),
    }
    request = LockRequest(
        scan=scan,
        sources=tuple(find_sources(scan)),
        target=target,
        session=session,
        fresh=fresh,
        add=tuple(add),
        exact=exact,
        ignored=ignored,
    )
    answer = keep_for_a_day(
        session.cache / "locks",
        question,
        lambda: _to_dict(_lock(request)),
        fresh=fresh,
    )
    return _from_dict(answer)


def _refuse_target(scan: Scan, target: Target) -> None:
    if target.platform not in TARGETS:
        raise LockError(f"Cannot lock for `{target.platform}`, only for {name_some(list(TARGETS))}")
    if scan.interpreter.implementation.lower() != "cpython":
        raise LockError(
            f"Cannot lock for `{scan.interpreter.implementation}` yet, only for CPython"
        )


def _lock(request: LockRequest) -> Locked:
    from envboot.lock.across import lock_across
    from envboot.lock.comparison import mark_edited
    from envboot.lock.exact import lock_exactly

    _refuse_lost(request.scan)
    is_here = request.scan.platform == request.target.platform
    answer = (lock_exactly if is_here else lock_across)(request)
    locked = assemble(answer, request.sources, request.session, target=request.target)
    edited = {
        item.conda or item.name for item in request.scan.distributions if item.record == "drifted"
    }
    return replace(locked, rows=mark_edited(locked.rows, edited))


def assemble(
    answer: Answer, sources: Sequence[Source], session: Session, *, target: Target
) -> Locked:
    """Add what every base has, and say what guests cannot fetch."""
    from envboot.config import find_tool
    from envboot.indexes.packages import find_private, note_channels
    from envboot.lock.conda_packages import note_files, virtual_packages

    found, conda = answer.found, answer.conda
    names = [*(["micromamba"] if conda else []), *(["uv"] if found.wheels or not conda else [])]
    base = Base(
        platform=target.platform,
        python=answer.python,
        prefix=target.prefix,
        virtual_packages=virtual_packages(target.platform, target.glibc, target.cuda),
        conda=conda,
        wheels=tuple(sorted(found.wheels, key=lambda wheel: wheel.name)),
        tools={name: find_tool(name, target.platform, session.settings) for name in names},
    )
    private = find_private(conda, session.environment)
    return Locked(
        base=base,
        sources=tuple(sorted((*sources, *found.sources), key=lambda source: source.name)),
        notes=(*answer.notes, *note_files(conda), *note_channels(private), *found.notes),
        rows=(*answer.rows, *(_row(source) for source in sources)),
    )


def _row(source: Source) -> Row:
    from envboot.lock.comparison import compare

    return compare(source.name, "layer", source.version, source.version)


def _refuse_lost(scan: Scan) -> None:
    """Refuse what was built from something that is gone: an index's package of that name is not it.

    Raises:
        LockError: naming every such distribution.
    """
    from envboot.scan.projects import find_problems

    lost = find_problems(scan)
    if lost:
        raise LockError(
            f"Cannot bring {count(len(lost), 'package')}: "
            f"{name_some([item.subject for item in lost])}",
            causes=tuple(f"`{item.subject}`: {item.message}" for item in lost[:LISTED]),
            hint="Install them again from an index, from git or from a folder that stays; or go "
            "without, with `--ignore NAME`",
        )


def _to_dict(locked: Locked) -> dict[str, Any]:
    return {
        "manifest": Manifest(base=locked.base).to_dict(),
        "sources": [asdict(source) for source in locked.sources],
        "notes": [asdict(note) for note in locked.notes],
        "rows": [asdict(row) for row in locked.rows],
    }


def _from_dict(document: dict[str, Any]) -> Locked:
    import json

    from envboot.lock.comparison import Row

    return Locked(
        base=parse_manifest(json.dumps(document["manifest"])).base,
        sources=tuple(Source(**source) for source in document["sources"]),
        notes=tuple(Problem(**note) for note in document["notes"]),
        rows=tuple(Row(**row) for row in document["rows"]),
    )
