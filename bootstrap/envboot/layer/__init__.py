"""The local layer: local and git projects built here, and loose code, in one small archive."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name, parse_wheel_filename

from envboot.agent import wire
from envboot.errors import LayerError, name_some
from envboot.indexes import open_indexes
from envboot.layer.activation import render_activation
from envboot.layer.beside import digest_environment
from envboot.layer.build import Builder, Built
from envboot.layer.cached import add_archive, find_archive, find_place, read_cached
from envboot.layer.loose_files import Code, check_code, collect
from envboot.layer.replaced import find_replaced
from envboot.layer.stamps import TRIES, refuse_changing, stamp
from envboot.manifest import Layer, Project
from envboot.redaction import strip_url
from envboot.scan.installed import note_replaced
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from envboot.indexes import Indexes
    from envboot.lock.target import Target
    from envboot.scan.installed import Replaced
    from envboot.scan.schema import Loose, Scan, Source
    from envboot.session import Session

__all__ = ["BuiltLayer", "Parts", "build_parts", "find_archive", "pack_parts"]

# Part of what a kept layer is named by: change it when the tree of the same wheels changes.
_FORMAT = 5
_LEVELS = 98
"""Directories above a file: with its name a path has 99 parts, as `agent.tar` allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a layer is packed from; `replaced` are wheels that are not what is installed here.

    `files` are more of them, by their paths below the prefix; `withheld` says what of that kind
    is not sent.
    """

    builder: Builder
    wheels: tuple[Built, ...]
    code: Code
    files: Mapping[str, bytes] = field(default_factory=dict)
    replaced: tuple[Replaced, ...] = ()
    withheld: tuple[Problem, ...] = ()

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What will not arrive as it is."""
        return (
            *note_replaced(self.replaced),
            *(note for wheel in self.wheels for note in wheel.notes),
            *self.code.notes,
            *self.withheld,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltLayer:
    """A layer on disk: `path` is the tar.zst of `size` bytes.

    `built` names the projects that were built just now, the others came from the cache; `cached`
    says that the whole layer did.
    """

    manifest: Layer
    path: Path
    size: int
    built: tuple[str, ...]
    cached: bool
    code: Code
    notes: tuple[Problem, ...] = ()


def build_parts(
    sources: Sequence[Source],
    session: Session,
    *,
    python: str,
    version: str,
    target: Target,
    loose: Sequence[Loose] = (),
    scan: Scan | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Parts:
    """Build every project, at most one a processor at a time, and collect loose code.

    `python` is the scanned interpreter and `version` its version. What is built is compared with
    the distributions of `scan`, and what its activation sets goes along.

    Raises:
        LayerError: projects fail to build (every one is named), the target cannot run something,
            or there is too much loose code.
    """
    shared = {source.name for source in sources} & {*session.settings.no_build_isolation}

    @cache
    def find_indexes() -> Indexes:
        return open_indexes(
            session.environment,
            session.folder,
            prefix=Path(python).parent.parent,
            pip=any(item.installer == "pip" for item in scan.distributions) if scan else False,
            probe="setuptools",
        )

    builder = Builder(
        python=python,
        version=version,
        target=target,
        session=session,
        beside=digest_environment(python, session) if shared else None,
        find_indexes=find_indexes if scan else None,
    )
    wheels = _build_all(builder, sources, progress) if sources else []
    code = collect(loose, session, brought=_find_brought(wheels))
    check_code(code, target)
    replaced = _compare(wheels, scan, builder) if scan else ()
    files, withheld = render_activation(scan, target.prefix) if scan else ({}, ())
    return Parts(
        builder=builder,
        wheels=tuple(wheels),
        code=code,
        files=files,
        replaced=replaced,
        withheld=withheld,
    )


def pack_parts(parts: Parts) -> BuiltLayer | None:
    """Pack wheels, loose code and other files into one archive, None where there are none.

    The same sources give the same digest, whatever the umask, the times, the place of the
    checkout or the cache.

    Raises:
        LayerError: a wheel is not sound, or byte code cannot be compiled.
    """
    wheels, code = parts.wheels, parts.code
    if not (wheels or code.folders or parts.files):
        return None
    for _ in range(TRIES):
        before = stamp([file.source for file in code.files] + [wheel.wheel for wheel in wheels])
        packed = _pack_once(parts, before)
        if packed:
            return packed
    raise refuse_changing("the local layer", before)


def _pack_once(parts: Parts, before: Mapping[str, tuple[int, ...]]) -> BuiltLayer | None:
    """Pack everything; None if files are not as they were `before` any more."""
    wheels, code, builder, files = parts.wheels, parts.code, parts.builder, parts.files
    target = builder.target
    built = tuple(wheel.source.name for wheel in wheels if not wheel.cached)
    question = {
        "format": _FORMAT,
        "wheels": [[wheel.key, wheel.wheel.name, wheel.source.git] for wheel in wheels],
        "code": code.digest,
        "python": ".".join(builder.version.split(".")[:2]),
        "prefix": None if target.host_python else target.prefix,
        "headers": _place_headers(builder),
        **({"files": _digest(files)} if files else {}),
    }
    folder = builder.cache / "layers"
    key = wire.digest("layer-request", question).partition(":")[2]
    kept = None if built else read_cached(folder, key)
    document = kept or _pack(parts, folder, key, before)
    if document is None:
        return None
    return BuiltLayer(
        manifest=Layer(
            digest=document["digest"],
            projects=tuple(Project(**project) for project in document["projects"]),
        ),
        path=find_place(folder, document["digest"]),
        size=document["size"],
        built=built,
        cached=kept is not None,
        code=code,
        notes=(*parts.notes, *(Problem(**note) for note in document["notes"])),
    )


def _compare(wheels: Sequence[Built], scan: Scan, builder: Builder) -> tuple[Replaced, ...]:
    """Find the wheels that are not what is installed here.

    A wheel that an index promised by its hash was compared when it was locked.
    """
    installed = {item.name: item for item in reversed(scan.distributions) if not item.conda}
    found = []
    for each in wheels:
        item = installed.get(canonicalize_name(each.source.name))
        path = Path(each.source.path or "")
        is_file = path.suffix == ".whl"
        if item and not (is_file and path.is_relative_to(builder.cache)):
            found.append(
                find_replaced(
                    each.wheel,
                    item,
                    sha256=each.key if is_file else None,
                    native=scan.platform == builder.target.platform,
                )
            )
    return tuple(each for each in found if each)


def _build_all(
    builder: Builder,
    sources: Sequence[Source],
    progress: Callable[[int, int | None], None] | None,
) -> list[Built]:
    """Build in parallel; returns the wheels in the order of their names."""
    done, lock = 0, threading.Lock()

    def build(source: Source) -> Built | LayerError:
        nonlocal done
        try:
            return builder.build(source)
        except LayerError as error:
            return error
        finally:
            with lock:
                done += 1
                if progress:
                    progress(done, len(sources))

    with ThreadPoolExecutor(min(len(sources), os.cpu_count() or 1)) as pool:
        try:
            outcomes = list(pool.map(build, sources))
        except BaseException:
            # Only this thread is interrupted, and the others are waited for.
            builder.stop.set()
            raise
    errors = [outcome for outcome in outcomes if isinstance(outcome, LayerError)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        causes = tuple(
            f"{error.message}: {error.causes[-1]}" if error.causes else error.message
            for error in errors
        )
        hints = [error.hint for error in errors if error.hint]
        raise LayerError(
            f"Failed to build {len(errors)} projects", causes=causes, hint=", ".join(hints) or None
        )
    wheels = [outcome for outcome in outcomes if isinstance(outcome, Built)]
    _refuse_same_names(wheels)
    return sorted(wheels, key=lambda wheel: wheel.wheel.name)


def _refuse_same_names(wheels: list[Built]) -> None:
    by_name: dict[str, list[str]] = {}
    for wheel in wheels:
        where = wheel.source.path or strip_url(wheel.source.git or "")
        by_name.setdefault(parse_wheel_filename(wheel.wheel.name)[0], []).append(where)
    for name, places in sorted(by_name.items()):
        if len(places) > 1:
            raise LayerError(
                f"Expected one project that is named `{name}`, found {name_some(sorted(places))}"
            )


def _find_brought(wheels: list[Built]) -> dict[str, set[str]]:
    """Return the top-level files and folders that each local project's wheel brings."""
    brought = {}
    for wheel in wheels:
        path = wheel.source.path
        if path and Path(path).is_dir():
            with zipfile.ZipFile(wheel.wheel) as archive:
                names = {name.partition("/")[0] for name in archive.namelist()}
            brought[f"{path}/{wheel.source.subdirectory or ''}"] = names
    return brought


def _pack(
    parts: Parts, folder: Path, key: str, before: Mapping[str, tuple[int, ...]]
) -> dict[str, Any] | None:
    """Install everything into a tree, compile and pack it, and keep what came out.

    None if files are not as they were `before` any more: another digest would be theirs.
    """
    from envboot.agent.pack import write_layer
    from envboot.files import write_whole
    from envboot.layer.tree import (
        Tree,
        compile_tree,
        install_code,
        install_wheel,
        settle_modes,
        write_file,
        write_list,
    )

    wheels, code, builder = parts.wheels, parts.code, parts.builder
    target = builder.target
    minor = ".".join(builder.version.split(".")[:2])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch, "tree")
        prefix = None if target.host_python else target.prefix
        tree = Tree(root, minor, prefix, _place_headers(builder))
        for wheel in wheels:
            install_wheel(tree, wheel.wheel, wheel.source)
        install_code(tree, code)
        if stamp(before) != before:
            return None
        for path, content in parts.files.items():
            write_file(root / path, content)
        environment = builder.session.environment
        tag = compile_tree(root, builder.python, target.prefix, environment)
        tree.write_records(tag)
        write_list(root)
        _refuse_deep(root)
        settle_modes(root)
        packed = Path(scratch, "layer.tar.zst")
        digest, _raw, size = write_layer(os.fspath(root), os.fspath(packed))
        add_archive(packed, folder, digest)
    document = {
        "digest": f"sha256:{digest}",
        "size": size,
        "projects": [asdict(_project(wheel)) for wheel in wheels],
        "notes": [
            asdict(Problem(subject=path, message="Several parts of the layer bring this file"))
            for path in sorted(set(tree.replaced))
        ],
    }
    write_whole(folder / f"{key}.json", json.dumps(document).encode())
    return document


def _refuse_deep(root: Path) -> None:
    """Refuse what no machine would unpack (`agent.tar.check`), by its beginning.

    Raises:
        LayerError: a path has too many levels.
    """
    for place, folders, files in os.walk(root):
        depth = len(Path(place).relative_to(root).parts)
        if depth > _LEVELS and (folders or files):
            shown = Path(place).relative_to(root).as_posix()
            raise LayerError(
                f"Cannot send `{shown[:60]}…`: expected at most {_LEVELS} levels of directories",
                hint="Leave it out with `exclude` in `[tool.envboot]`",
            )


def _place_headers(builder: Builder) -> str:
    """Return where pip and uv would put headers on the machine: a venv has a place of its own."""
    minor = ".".join(builder.version.split(".")[:2])
    is_conda = Path(builder.python).parent.with_name("conda-meta").is_dir()
    is_venv = builder.target.host_python and not is_conda
    return f"include/site/python{minor}" if is_venv else f"include/python{minor}"


def _digest(files: Mapping[str, bytes]) -> str:
    listed = [[path, hashlib.sha256(content).hexdigest()] for path, content in files.items()]
    return hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest()


def _project(wheel: Built) -> Project:
    name, version, _, _ = parse_wheel_filename(wheel.wheel.name)
    return Project(name=canonicalize_name(name), version=str(version), commit=wheel.source.commit)
