"""How much disk an environment may need on a machine."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from envboot.publish.archive_index import read_archive_index
from envboot.toml import read_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.manifest import Manifest
    from envboot.publish.archive_index import ArchiveIndex
    from envboot.store.protocol import Store

MB = 10**6
PACKED = 0.5
"""A pessimist's ratio of what is packed to what it unpacks to: CUDA's libraries reach it."""
LAYER = 300 * MB
"""For code of the user's own, whose guard (`loose-limit`) is 100 MB, packed and unpacked."""


def estimate_disk(manifest: Manifest, index: ArchiveIndex | None = None) -> int:
    """Return how many bytes of disk an environment may need beside the image's own.

    That is the environment, what it was downloaded as, and the archive while it is published;
    the kept copy is hard links. `index` is that of the published archive, which tells all;
    without it a table of large packages must do.
    """
    if index is not None:
        unpacked, packed = index.raw, index.size
    else:
        unpacked = sum(_find_size(name) for name in _names(manifest)) * MB
        packed = int(unpacked * PACKED)
    return unpacked + 2 * packed + (LAYER if manifest.layer else 0)


def find_disk(store: Store, manifest: Manifest) -> int:
    """Return the same by what the bucket has of the environment.

    Raises:
        StoreError: the bucket cannot be read.
    """
    return estimate_disk(manifest, read_archive_index(store, manifest))


def _names(manifest: Manifest) -> Iterator[str]:
    for wheel in manifest.base.wheels:
        yield wheel.name
    for package in manifest.base.conda:
        yield package.named.name


def _find_size(name: str) -> int:
    exact, beginnings, default = _read_table()
    if name in exact:
        return exact[name]
    return next((size for start, size in beginnings if name.startswith(start)), default)


@cache
def _read_table() -> tuple[dict[str, int], list[tuple[str, int]], int]:
    """Return sizes in MB: by name, by a name's beginning (the longest first), and of all else."""
    table = read_data("package-sizes.toml")
    packages: dict[str, int] = table["packages"]
    exact = {name: size for name, size in packages.items() if not name.endswith("*")}
    beginnings = [(name[:-1], size) for name, size in packages.items() if name.endswith("*")]
    beginnings.sort(key=lambda item: -len(item[0]))
    return exact, beginnings, int(table["default"])
