"""Layers that were packed before, in the cache directory, and whether they are still whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from envboot.files import hash_file, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.manifest import Layer


def find_archive(layer: Layer, cache: Path) -> Path | None:
    """Return the packed layer that an earlier build left in the cache, None without a whole one."""
    path = find_place(cache / "layers", layer.digest)
    return path if _is_whole(path) else None


def find_place(folder: Path, digest: str) -> Path:
    """Return where a layer's archive is, or would be."""
    return folder / f"{digest.removeprefix('sha256:')}.tar.zst"


def add_archive(packed: Path, folder: Path, digest: str) -> None:
    """Move a packed layer to its place, and note what is in it."""
    place, content = find_place(folder, digest), hash_file(packed)
    packed.replace(place)
    write_whole(_find_sum(place), content.encode())


def read_cached(folder: Path, key: str) -> dict[str, Any] | None:
    """Read what an earlier packing left; None where there is none, or its archive is not whole."""
    try:
        document: dict[str, Any] = json.loads((folder / f"{key}.json").read_bytes())
        place = find_place(folder, document["digest"])
    except (OSError, ValueError, KeyError):
        return None
    return document if _is_whole(place) else None


def _find_sum(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def _is_whole(archive: Path) -> bool:
    """Tell whether an archive has the bytes that were packed.

    It is uploaded under the digest of its content, and a bucket never replaces an object.
    """
    try:
        return _find_sum(archive).read_text("ascii") == hash_file(archive)
    except (OSError, ValueError):
        return False
