"""From an interpreter, a lock file or a manifest to what can be published: lock and build."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from envboot.errors import UsageError, name_some
from envboot.layer import build_parts, find_archive, pack_parts
from envboot.layer.command_files import add_named, find_named, place_words
from envboot.layer.command_target import check_command
from envboot.lock import Locked, lock
from envboot.lock.comparison import mark_replaced
from envboot.lock.target import Target
from envboot.manifest import Manifest
from envboot.platforms import TARGETS
from envboot.scan.modules import has_module
from envboot.selection.observe import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from envboot.layer import BuiltLayer, Parts
    from envboot.lock.comparison import Row
    from envboot.scan.schema import Problem, Scan
    from envboot.selection import Selection
    from envboot.session import Session
    from envboot.store.protocol import Store


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

    `command` is the command as the guest reads it, `rows` compare here with there. Of a manifest
    that was locked before, there is no `scan`, no row and no `layer`: `kept` is what an earlier
    build left on this disk, None where the bucket must have it.
    """

    scan: Scan | None
    manifest: Manifest
    layer: BuiltLayer | None
    notes: tuple[Problem, ...]
    command: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    kept: Path | None = None

    @property
    def layer_path(self) -> Path | None:
        """The packed layer on this disk."""
        return self.layer.path if self.layer else self.kept


def resolve(
    selection: Selection,
    session: Session,
    *,
    host_python: bool,
    command: Sequence[str] = (),
    dask: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
    path: Sequence[str] | None = None,
) -> Resolved:
    """Scan, select and lock, or read the lock file; `note` is told each step as it begins.

    With `dask` the environment must have all that machines of Dask need. `path` is the `sys.path`
    of the running interpreter: then it is that one which is scanned, whatever is active, and what
    has been put on its path is loose code. envboot itself is sent with `path`, whose code nobody
    can read, or if `command` or the code uses it.

    Raises:
        UsageError: the selection asks for what the environment does not have, or the host's
            interpreter on another platform.
        ScanError, LockError: what cannot be read or locked, by name.
    """
    note("scan")
    found = observe(selection, session, path)
    target = Target(
        platform=selection.platform or find_platform(found.platform),
        glibc=session.settings.glibc,
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
        return _read(selection.lock_file, found, target, session, dask=dask, fresh=fresh)
    from envboot.lockfiles.staleness import compare_lock_file
    from envboot.selection.apply import leave_ignored, select
    from envboot.selection.own_packages import find_own

    stale = compare_lock_file(found, session)
    selected = select(
        found,
        selection,
        settings=session.settings,
        target=target,
        dask=dask,
        own=()
        if path is not None
        else find_own(found, selection, session, words=command, dask=dask),
    )
    note("lock")
    locked = lock(
        selected.scan,
        session,
        target=target,
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
        notes=(*stale, *selected.scan.problems, *selected.notes, *locked.notes),
    )


def prepare(
    selection: Selection,
    session: Session,
    *,
    host_python: bool,
    command: Sequence[str] = (),
    dask: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
    path: Sequence[str] | None = None,
) -> Prepared:
    """Resolve the environment and build the layer; `note` is told each step as it begins.

    Files of the working folder that `command` names travel with its loose code. `path` is as of
    `resolve`.

    Raises:
        UsageError, ScanError, LockError: see `resolve`.
        LayerError: what cannot be built, by name.
        LockError: something differs from what is installed here, and the selection is strict.
    """
    resolved = resolve(
        selection,
        session,
        host_python=host_python,
        command=command,
        dask=dask,
        fresh=fresh,
        note=note,
        path=path,
    )
    note("build")
    parts = build(resolved, selection, session, command=command)
    rows = mark_replaced(resolved.rows, parts.replaced)
    if selection.strict or session.settings.strict:
        from envboot.selection.strict import refuse_differing

        refuse_differing(rows)
    interpreter = resolved.scan.interpreter
    # Nothing says which modules a distribution has that is not installed here.
    unknown = selection.lock_file or selection.add or session.settings.add
    check_command(
        command,
        session.folder,
        parts.code,
        prefix=interpreter.prefix,
        loose=selection.loose,
        has_module=None if unknown else partial(has_module, interpreter.executable, session),
    )
    layer = pack_parts(parts)
    words, strangers = place_words(command, session.folder, parts.code, is_here=host_python)
    return Prepared(
        scan=resolved.scan,
        manifest=Manifest(base=resolved.locked.base, layer=layer.manifest if layer else None),
        layer=layer,
        notes=(*resolved.notes, *(layer.notes if layer else parts.notes), *strangers),
        command=words,
        rows=rows,
    )


def build(
    resolved: Resolved, selection: Selection, session: Session, *, command: Sequence[str] = ()
) -> Parts:
    """Build what the layer brings, and compare it with what is installed here.

    Files of the working folder that `command` names travel with its loose code.

    Raises:
        LayerError: what cannot be built, by name.
    """
    loose = resolved.scan.loose
    if selection.loose:
        named = find_named(command, session.folder).values()
        include = bool(session.settings.include)
        loose = add_named(loose, session.folder, named, include=include)
    return build_parts(
        resolved.locked.sources,
        session,
        python=resolved.builder,
        version=resolved.locked.base.python.version,
        target=resolved.target,
        loose=loose if selection.loose else (),
        scan=resolved.scan,
    )


def prepare_manifest(
    manifest: Manifest,
    session: Session,
    *,
    host_python: bool,
    platform: str | None,
    command: Sequence[str] = (),
    dask: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Take a manifest as it is: nothing is scanned or built, and no loose code joins it.

    `platform` is what the machines are, None where they may be anything; `host_python` says that
    they run on this machine. With `dask` the manifest must have all that machines of Dask need.

    Raises:
        UsageError: the machines are of another platform, or lack the interpreter.
        LockError: a required package is missing, by name.
    """
    note("lock")
    base = manifest.base
    if platform not in (None, base.platform):
        raise UsageError(
            f"Cannot make an environment of `{base.platform}` on machines of `{platform}`",
            hint=f"Ask for machines of `{base.platform}`, or lock for `--platform {platform}`",
        )
    from envboot.lockfiles.interpreters import check_interpreter
    from envboot.selection.required import refuse_missing_in

    check_interpreter(manifest, session, host_python=host_python)

    projects = [project.name for project in manifest.layer.projects] if manifest.layer else []
    refuse_missing_in(base, projects, session.settings, dask=dask)
    if manifest.layer is None:
        check_command(command, session.folder, None)
    words, strangers = place_words(command, session.folder, None, is_here=host_python)
    return Prepared(
        scan=None,
        manifest=manifest,
        layer=None,
        notes=strangers,
        command=words,
        kept=find_archive(manifest.layer, session.cache) if manifest.layer else None,
    )


def prepare_source(
    selection: Selection,
    session: Session,
    store: Store | None,
    *,
    host_python: bool,
    command: Sequence[str] = (),
    dask: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Prepare what a selection means, which may name a manifest or a published environment.

    `store` is the bucket that such a name is looked for in, None where there is none.

    Raises:
        UsageError: what is asked for beside a manifest makes no sense with it.
        EnvbootError: see `resolve_source`, `prepare` and `prepare_manifest`.
    """
    if selection.lock_file:
        from envboot.source import resolve_source

        passed_over: list[Problem] = []
        source = resolve_source(selection.lock_file, session, store, warn=passed_over.extend)
        if isinstance(source, Manifest):
            _refuse_choices(selection)
            prepared = prepare_manifest(
                source,
                session,
                host_python=host_python,
                platform=selection.platform,
                command=command,
                dask=dask,
                note=note,
            )
            return replace(prepared, notes=(*passed_over, *prepared.notes))
    return prepare(
        selection,
        session,
        host_python=host_python,
        command=command,
        dask=dask,
        fresh=fresh,
        note=note,
    )


def _refuse_choices(selection: Selection) -> None:
    given = {
        "--python": selection.python,
        "--ignore": selection.ignore,
        "--only": selection.only,
        "--add": selection.add,
        "--no-loose": not selection.loose,
        "--cuda": selection.cuda,
    }
    useless = [name for name, value in given.items() if value]
    if useless:
        raise UsageError(
            f"Cannot take the manifest `{selection.lock_file}` together with {name_some(useless)}",
            hint="A manifest is taken as it is: make it with what the machines need",
        )


def find_platform(here: str) -> str:
    """Return the platform of machines for somebody who named none: this one, where it may be."""
    return here if here in TARGETS else TARGETS[0]


def _read(
    file: Path,
    found: Scan,
    target: Target,
    session: Session,
    *,
    dask: bool,
    fresh: bool,
) -> Resolved:
    """Read a lock file: nothing of the environment goes, but the code that the user works on.

    A folder that the file itself installs is not loose too.
    """
    from envboot.lockfiles import read_lock_file
    from envboot.lockfiles.environment_yml import read_variables
    from envboot.lockfiles.interpreters import find_builder
    from envboot.selection.required import refuse_missing_in

    locked = read_lock_file(
        file,
        session,
        interpreter=found.interpreter,
        target=target,
        fresh=fresh,
    )
    names = [source.name for source in locked.sources]
    refuse_missing_in(locked.base, names, session.settings, dask=dask)
    interpreter = found.interpreter
    installed = {os.path.realpath(source.path) for source in locked.sources if source.path}
    loose = tuple(
        item
        for item in found.loose
        if item.origin in ("current", "pythonpath")
        and os.path.realpath(item.folder) not in installed
    )
    kept = replace(found, conda=(), distributions=(), loose=loose, problems=())
    return Resolved(
        scan=replace(kept, variables=read_variables(file), activation=()),
        target=target,
        locked=locked,
        builder=find_builder(locked.base.python, interpreter, session)
        if locked.sources
        else interpreter.executable,
        rows=locked.rows,
        notes=locked.notes,
    )
