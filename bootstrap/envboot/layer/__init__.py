"""The local layer: local and git projects built here, and loose code, in one small archive."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name, parse_wheel_filename

from envboot.agent import wire
from envboot.errors import LayerError, name_some
from envboot.layer.build import Builder, Built
from envboot.layer.loose_files import Code, check_code, collect
from envboot.manifest import Layer, Project
from envboot.redaction import strip_url
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from envboot.lock.target import Target
    from envboot.scan.schema import Loose, Source
    from envboot.session import Session

# Part of what a kept layer is named by: change it when the tree of the same wheels changes.
_FORMAT = 4


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


def build_layer(
    sources: Sequence[Source],
    session: Session,
    *,
    python: str,
    version: str,
    target: Target,
    loose: Sequence[Loose] = (),
    files: Mapping[str, bytes] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> BuiltLayer | None:
    """Build every project, at most one a processor at a time, add loose code, and pack it all.

    `files` are more of them, by their paths below the prefix. None where there is nothing to pack.

    `python` is the scanned interpreter and `version` its version. The same sources give the
    same digest, whatever the umask, the times, the place of the checkout or the cache.

    Raises:
        LayerError: projects fail to build (every one is named), the target cannot run something,
            or there is too much loose code.
    """
    builder = Builder(python=python, version=version, target=target, session=session)
    wheels = _build_all(builder, sources, progress) if sources else []
    brought = _find_brought(wheels)
    code = collect(loose, session, brought=brought)
    check_code(code, target)
    files = files or {}
    if not wheels and not code.folders and not files:
        return None
    built = tuple(wheel.source.name for wheel in wheels if not wheel.cached)
    question = {
        "format": _FORMAT,
        "wheels": [[wheel.key, wheel.wheel.name, wheel.source.git] for wheel in wheels],
        "code": code.digest,
        "python": ".".join(version.split(".")[:2]),
        "prefix": None if target.host_python else target.prefix,
        **({"files": _digest(files)} if files else {}),
    }
    folder = session.cache / "layers"
    key = wire.digest("layer-request", question).partition(":")[2]
    kept = None if built else _read_kept(folder, key)
    document = kept or _pack(wheels, code, builder, folder, key, files)
    return BuiltLayer(
        manifest=Layer(
            digest=document["digest"],
            projects=tuple(Project(**project) for project in document["projects"]),
        ),
        path=_archive(folder, document["digest"]),
        size=document["size"],
        built=built,
        cached=kept is not None,
        code=code,
        notes=(
            *(note for wheel in wheels for note in wheel.notes),
            *(Problem(**note) for note in document["notes"]),
            *code.notes,
        ),
    )


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
    wheels: list[Built],
    code: Code,
    builder: Builder,
    folder: Path,
    key: str,
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """Install everything into a tree, compile and pack it, and keep what came out."""
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

    target = builder.target
    minor = ".".join(builder.version.split(".")[:2])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch, "tree")
        tree = Tree(root, minor, None if target.host_python else target.prefix)
        for wheel in wheels:
            install_wheel(tree, wheel.wheel, wheel.source)
        install_code(tree, code)
        for path, content in files.items():
            write_file(root / path, content)
        environment = builder.session.environment
        tag = compile_tree(root, builder.python, target.prefix, environment)
        tree.write_records(tag)
        write_list(root)
        settle_modes(root)
        packed = Path(scratch, "layer.tar.zst")
        digest, _raw, size = write_layer(os.fspath(root), os.fspath(packed))
        packed.replace(_archive(folder, digest))
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


def _digest(files: Mapping[str, bytes]) -> str:
    listed = [[path, hashlib.sha256(content).hexdigest()] for path, content in files.items()]
    return hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest()


def _project(wheel: Built) -> Project:
    name, version, _, _ = parse_wheel_filename(wheel.wheel.name)
    return Project(name=canonicalize_name(name), version=str(version), commit=wheel.source.commit)


def find_archive(layer: Layer, cache: Path) -> Path | None:
    """Return the packed layer that an earlier build left in the cache, None where it is gone."""
    path = _archive(cache / "layers", layer.digest)
    return path if path.exists() else None


def _archive(folder: Path, digest: str) -> Path:
    return folder / f"{digest.removeprefix('sha256:')}.tar.zst"


def _read_kept(folder: Path, key: str) -> dict[str, Any] | None:
    """Read what an earlier packing left; None where there is none, or its archive is not whole."""
    try:
        document: dict[str, Any] = json.loads((folder / f"{key}.json").read_bytes())
        is_whole = _archive(folder, document["digest"]).stat().st_size == document["size"]
    except (OSError, ValueError, KeyError):
        return None
    return document if is_whole else None
