"""What every reader of a lock file is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from envboot.errors import LISTED, LockError, name_some
from envboot.indexes.configuration import Configuration
from envboot.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from packaging.pylock import Package

    from envboot.lock.target import Target
    from envboot.manifest import CondaPackage, Python
    from envboot.scan.schema import Interpreter, Problem
    from envboot.session import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class LockFileRequest:
    """One lock file to read: `names` are the groups, extras or environment behind its `#`.

    `interpreter` is the active one, which decides where the file leaves Python open.
    """

    file: Path
    text: str
    names: tuple[str, ...] = ()
    interpreter: Interpreter
    target: Target
    session: Session
    fresh: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a lock file says for the target: Python, exact conda packages, and PyPI's.

    `packages` are PEP 751 entries, each with all the files that may be chosen from; their
    paths are relative to the lock file. `configuration` has the indexes that the file names.
    """

    python: Python
    conda: tuple[CondaPackage, ...] = ()
    packages: Sequence[Package] = ()
    notes: tuple[Problem, ...] = ()
    configuration: Configuration = field(default_factory=Configuration)


def refuse(request: LockFileRequest, *causes: str, hint: str | None = None) -> NoReturn:
    """Raise that the lock file cannot be read, URLs in the causes without credentials."""
    shown = [redact(cause) for cause in causes[:LISTED]]
    if len(causes) > LISTED:
        shown.append(f"{len(causes) - LISTED} more")
    raise LockError(f"Cannot read lock file `{request.file}`", causes=tuple(shown), hint=hint)


def refuse_platform(request: LockFileRequest, known: Sequence[str]) -> NoReturn:
    """Raise that a lock file was not made for the target."""
    held = name_some(sorted(set(known))) if known else "none at all"
    raise LockError(
        f"`{request.file}` is not locked for `{request.target.platform}`",
        causes=(f"Its platforms are {held}",),
        hint="Lock it for that platform too, or name one of its own with `--platform`",
    )


def refuse_names(
    request: LockFileRequest, unknown: Sequence[str], known: Sequence[str]
) -> NoReturn:
    """Raise that what stands behind `#` is not in the file."""
    held = name_some(sorted(known)) if known else "nothing to choose from"
    raise LockError(
        f"Cannot find {name_some(list(unknown))} in `{request.file}`", causes=(f"It has {held}",)
    )
