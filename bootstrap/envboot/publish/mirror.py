"""What is published elsewhere and copied into the bucket: pinned tools, private packages."""

from __future__ import annotations

import hashlib
import http.client
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.agent import wire
from envboot.errors import StoreError
from envboot.files import write_whole
from envboot.indexes.packages import PrivatePackage, pack_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.manifest import Tool
    from envboot.session import Session
    from envboot.store.protocol import Store


def ensure_packages(
    store: Store,
    key: str,
    private: Sequence[PrivatePackage],
    session: Session,
) -> None:
    """Put the conda packages that guests have no login for into the bucket.

    Raises:
        LockError: one cannot be fetched.
        StoreError: the bucket refused.
    """
    if store.find(key):
        return
    session.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=session.cache) as folder:
        packed = Path(folder, "packages.tar")
        pack_private(private, session.environment, session.cache, packed)
        store.create(key, packed)


def ensure_tool(store: Store, name: str, tool: Tool, cache: Path) -> None:
    """Put a pinned tool into the bucket, from where it is published.

    Raises:
        StoreError: it cannot be fetched, is not what was pinned, or the bucket refused.
    """
    key = f"tools/{tool.sha256}/{name}"
    if store.find(key):
        return
    kept = cache / "tools" / tool.sha256
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, _download(name, tool))
    store.create(key, kept)


def _download(name: str, tool: Tool) -> bytes:
    shown = wire.without_query(tool.url)
    try:
        with urllib.request.urlopen(tool.url, timeout=60) as answer:
            data: bytes = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StoreError(
            f"Failed to fetch {name} {tool.version} for the bucket",
            causes=(f"`{shown}`: {error}",),
            hint=f"Set `[tool.envboot.tools.{name}]` to a place that can be reached",
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != tool.sha256:
        raise StoreError(
            f"Expected {name} {tool.version} with sha256 `{tool.sha256}`, found `{found}`",
            causes=(f"Fetched from `{shown}`",),
        )
    return data
