"""The local layer: local and git projects, built here, installed into one small archive."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name, parse_wheel_filename

from bootstrap.agent import wire
from bootstrap.errors import LayerError, name_some
from bootstrap.layer.build import Builder, Built
from bootstrap.manifest import Layer, Project
from bootstrap.scan.document import Problem
from bootstrap.scan.urls import strip_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bootstrap.lock import Target
    from bootstrap.scan.document import Source

# Part of what a kept layer is named by: change it when the tree of the same wheels changes.
_FORMAT = 1


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
    notes: tuple[Problem, ...] = ()


def build_layer(
    sources: Sequence[Source],
    *,
    python: str,
    version: str,
    target: Target,
    cache: Path,
    progress: Callable[[int, int | None], None] | None = None,
) -> BuiltLayer | None:
    """Build every project, at most one a processor at a time, and pack them; None without any.

    `python` is the scanned interpreter and `version` its version. The same sources give the
    same digest, whatever the umask, the times, the place of the checkout or the cache.

    Raises:
        LayerError: projects fail to build (every one is named), or the target cannot run them.
    """
    if not sources:
        return None
    builder = Builder(python=python, version=version, target=target, cache=cache)
    wheels = _build_all(builder, sources, progress)
    built = tuple(wheel.source.name for wheel in wheels if not wheel.cached)
    question = {
        "format": _FORMAT,
        "wheels": [[wheel.key, wheel.wheel.name, wheel.source.git] for wheel in wheels],
        "python": ".".join(version.split(".")[:2]),
        "prefix": None if target.host_python else target.prefix,
    }
    folder = cache / "layers"
    key = wire.digest("layer-request", question).partition(":")[2]
    kept = None if built else _read_kept(folder, key)
    document = kept or _pack(wheels, builder, folder, key)
    return BuiltLayer(
        manifest=Layer(
            digest=document["digest"],
            projects=tuple(Project(**project) for project in document["projects"]),
        ),
        path=_archive(folder, document["digest"]),
        size=document["size"],
        built=built,
        cached=kept is not None,
        notes=tuple(Problem(**note) for note in document["notes"]),
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
        outcomes = list(pool.map(build, sources))
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


def _pack(wheels: list[Built], builder: Builder, folder: Path, key: str) -> dict[str, Any]:
    """Install the wheels into a tree, compile and pack it, and keep what came out."""
    from bootstrap.agent.pack import write_layer
    from bootstrap.layer.install import Tree, compile_tree, install_wheel, settle_modes
    from bootstrap.lock.kept import write_whole

    target = builder.target
    minor = ".".join(builder.version.split(".")[:2])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch, "tree")
        tree = Tree(root, minor, None if target.host_python else target.prefix)
        for wheel in wheels:
            install_wheel(tree, wheel.wheel, wheel.source)
        tag = compile_tree(root, builder.python, target.prefix)
        tree.write_records(tag)
        settle_modes(root)
        packed = Path(scratch, "layer.tar.zst")
        digest, _raw, size = write_layer(os.fspath(root), os.fspath(packed))
        packed.replace(_archive(folder, digest))
    document = {
        "digest": f"sha256:{digest}",
        "size": size,
        "projects": [asdict(_project(wheel)) for wheel in wheels],
        "notes": [
            asdict(Problem(subject=path, message="Several projects of the layer bring this file"))
            for path in sorted(set(tree.replaced))
        ],
    }
    write_whole(folder / f"{key}.json", json.dumps(document).encode())
    return document


def _project(wheel: Built) -> Project:
    name, version, _, _ = parse_wheel_filename(wheel.wheel.name)
    return Project(name=canonicalize_name(name), version=str(version), commit=wheel.source.commit)


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
