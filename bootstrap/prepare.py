"""From an interpreter, or a lock file, to a manifest: scan, select, lock, and build the layer."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap.errors import UsageError
from bootstrap.layer import build_layer
from bootstrap.layer.words import add_named, find_named, place_words
from bootstrap.lock import Locked, Target, lock
from bootstrap.manifest import PLATFORMS, Manifest
from bootstrap.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bootstrap.config import Settings
    from bootstrap.layer import BuiltLayer
    from bootstrap.lock.plan import Row
    from bootstrap.scan.document import Problem, Scan
    from bootstrap.selection import Selection


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What must be on the machines, before anything is built.

    `scan` is what goes of the environment; of a lock file's, the interpreter counts alone.
    `builder` is the interpreter that builds the layer, `rows` compare here with there, and
    `notes` say what will not arrive as it is.
    """

    scan: Scan
    target: Target
    locked: Locked
    builder: str
    rows: tuple[Row, ...] = ()
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An environment, ready to be published; `notes` say what will not arrive as it is.

    `command` is the command as the guest reads it.
    """

    scan: Scan
    manifest: Manifest
    layer: BuiltLayer | None
    notes: tuple[Problem, ...]
    command: tuple[str, ...] = ()

    @property
    def layer_path(self) -> Path | None:
        """The packed layer on this disk."""
        return self.layer.path if self.layer else None


def resolve(
    selection: Selection,
    *,
    host_python: bool,
    settings: Settings,
    cache: Path,
    environment: Mapping[str, str],
    dask: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Resolved:
    """Scan, select and lock, or read the lock file; `note` is told each step as it begins.

    With `dask` the environment must have all that machines of Dask need.

    Raises:
        UsageError: the selection asks for what the environment does not have, or the host's
            interpreter on another platform.
        ScanError, LockError: what cannot be read or locked, by name.
    """
    note("scan")
    folder = Path.cwd() if selection.loose else None
    found = scan(selection.python, environment=environment, folder=folder)
    target = Target(
        platform=selection.platform or find_platform(found.platform),
        glibc=settings.glibc,
        cuda=selection.cuda,
        host_python=host_python,
    )
    if host_python and target.platform != found.platform:
        raise UsageError(
            f"Cannot use the interpreter of this machine (`{found.platform}`) "
            f"on `{target.platform}`",
            hint="Leave out `--host-python` or `--platform`",
        )
    if selection.lock_file:
        note("lock")
        return _read(selection.lock_file, found, target, settings, cache, dask=dask, fresh=fresh)
    from bootstrap.selected import leave_ignored, select

    selected = select(found, selection, settings=settings, target=target, dask=dask)
    note("lock")
    locked = lock(
        selected.scan,
        target=target,
        settings=settings,
        cache=cache,
        fresh=fresh,
        add=selected.add,
        exact=selected.exact,
        ignored=selected.ignored,
    )
    # conda's solve for another platform brings all that is needed, the ignored too.
    locked = leave_ignored(locked, selected.ignored)
    return Resolved(
        scan=selected.scan,
        target=target,
        locked=locked,
        builder=found.interpreter.executable,
        rows=(*locked.rows, *selected.rows),
        notes=(*selected.scan.problems, *selected.notes, *locked.notes),
    )


def prepare(
    selection: Selection,
    *,
    host_python: bool,
    settings: Settings,
    cache: Path,
    environment: Mapping[str, str],
    command: Sequence[str] = (),
    dask: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Resolve the environment and build the layer; `note` is told each step as it begins.

    Files of the working folder that `command` names travel with its loose code.

    Raises:
        UsageError, ScanError, LockError: see `resolve`.
        LayerError: what cannot be built, by name.
    """
    resolved = resolve(
        selection,
        host_python=host_python,
        settings=settings,
        cache=cache,
        environment=environment,
        dask=dask,
        fresh=fresh,
        note=note,
    )
    note("build")
    folder, loose = Path.cwd(), resolved.scan.loose
    if selection.loose:
        named = find_named(command, folder).values()
        loose = add_named(loose, folder, named, include=bool(settings.include))
    base = resolved.locked.base
    layer = build_layer(
        resolved.locked.sources,
        python=resolved.builder,
        version=base.python.version,
        target=resolved.target,
        cache=cache,
        loose=loose if selection.loose else (),
        exclude=settings.exclude,
        limit=settings.loose_limit,
        include=settings.include,
    )
    code = layer.code if layer else None
    words, strangers = place_words(command, folder, code, is_here=host_python)
    return Prepared(
        scan=resolved.scan,
        manifest=Manifest(base=base, layer=layer.manifest if layer else None),
        layer=layer,
        notes=(*resolved.notes, *(layer.notes if layer else ()), *strangers),
        command=words,
    )


def find_platform(here: str) -> str:
    """Return the platform of machines for somebody who named none: this one, where it may be."""
    return here if here in PLATFORMS else PLATFORMS[0]


def _read(
    file: Path,
    found: Scan,
    target: Target,
    settings: Settings,
    cache: Path,
    *,
    dask: bool,
    fresh: bool,
) -> Resolved:
    """Read a lock file: nothing of the environment goes, but the code that the user works on.

    A folder that the file itself installs is not loose too.
    """
    from bootstrap.lockfiles import read_lock_file
    from bootstrap.lockfiles.interpreters import find_builder
    from bootstrap.required import refuse_missing_in

    locked = read_lock_file(
        file,
        interpreter=found.interpreter,
        target=target,
        settings=settings,
        cache=cache,
        fresh=fresh,
    )
    refuse_missing_in(locked, settings, dask=dask)
    interpreter = found.interpreter
    installed = {os.path.realpath(source.path) for source in locked.sources if source.path}
    loose = tuple(
        item
        for item in found.loose
        if item.origin in ("current", "pythonpath")
        and os.path.realpath(item.folder) not in installed
    )
    return Resolved(
        scan=replace(found, conda=(), distributions=(), loose=loose, problems=()),
        target=target,
        locked=locked,
        builder=find_builder(locked.base.python, interpreter)
        if locked.sources
        else interpreter.executable,
        rows=locked.rows,
        notes=locked.notes,
    )
