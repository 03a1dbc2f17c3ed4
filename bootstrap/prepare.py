"""From an interpreter to a manifest: scan, lock, and build the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootstrap.layer import build_layer
from bootstrap.lock import Target, lock
from bootstrap.manifest import Manifest
from bootstrap.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bootstrap.config import Settings
    from bootstrap.layer import BuiltLayer
    from bootstrap.scan.document import Problem, Scan
    from bootstrap.selection import Selection


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An environment, ready to be published; `notes` say what will not arrive as it is."""

    scan: Scan
    manifest: Manifest
    layer: BuiltLayer | None
    notes: tuple[Problem, ...]

    @property
    def layer_path(self) -> Path | None:
        """The packed layer on this disk."""
        return self.layer.path if self.layer else None


def prepare(
    selection: Selection,
    *,
    host_python: bool,
    settings: Settings,
    cache: Path,
    environment: Mapping[str, str],
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Scan, lock and build the layer; `note` is told the name of each step as it begins.

    Raises:
        ScanError, LockError, LayerError: what cannot be read, locked or built, by name.
    """
    note("scan")
    found = scan(selection.python, environment=environment)
    target = Target(
        platform=selection.platform or found.platform,
        glibc=settings.glibc,
        cuda=selection.cuda,
        host_python=host_python,
    )
    note("lock")
    locked = lock(found, target=target, settings=settings, cache=cache, fresh=fresh)
    note("build")
    layer = build_layer(
        locked.sources,
        python=found.interpreter.executable,
        version=locked.base.python.version,
        target=target,
        cache=cache,
    )
    return Prepared(
        scan=found,
        manifest=Manifest(base=locked.base, layer=layer.manifest if layer else None),
        layer=layer,
        notes=(*found.problems, *locked.notes, *(layer.notes if layer else ())),
    )
