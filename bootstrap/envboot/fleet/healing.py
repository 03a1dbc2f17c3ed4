"""Archives and layers that machines could not use: checked here, and removed if damaged."""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import TYPE_CHECKING

from envboot.agent import zstd
from envboot.agent.wire import AgentError
from envboot.errors import StoreError
from envboot.publish import LAYER
from envboot.publish.bases import PublishedBase, heal_base
from envboot.publish.layout import Keys
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from envboot.fleet.outcomes import Outcome
    from envboot.manifest import Manifest
    from envboot.store.protocol import Store

_DAMAGED = re.compile(r"corrupt: the frame at byte (\d{1,15}) ")


def heal(store: Store, manifest: Manifest, outcomes: Iterable[Outcome]) -> PublishedBase | None:
    """Remove the archive of a launch's base if a machine met a damaged frame, and that is true.

    The next launch publishes another one. None where nothing is damaged, or that cannot be told.
    """
    results = [outcome.result for outcome in outcomes if outcome.result]
    errors = [each for result in results for each in result.errors if each.stage == "fetch"]
    offsets = [int(found[1]) for each in errors if (found := _DAMAGED.match(each.error))]
    if offsets:
        with contextlib.suppress(StoreError):
            return heal_base(store, Keys(manifest), manifest.base_digest, offsets)
    return None


def heal_layer(
    store: Store, manifest: Manifest, layer: Path | None, outcomes: Iterable[Outcome]
) -> Problem | None:
    """Replace the layer in the bucket if a machine refused its content, and that is true.

    `layer` is the one that was packed here; without it a damaged one is only removed.
    """
    results = [outcome.result for outcome in outcomes if outcome.result]
    if not manifest.layer or not any(e.stage == "layer" for r in results for e in r.errors):
        return None
    keys = Keys(manifest)
    with contextlib.suppress(StoreError):
        for key in filter(None, (keys.layer, keys.other_layer)):
            data = store.read(key, most=LAYER)
            if data is None or _hash_layer(data) == manifest.layer.digest:
                continue
            store.delete(key)
            text = "its content is not that of its digest; it is removed"
            if layer and store.create(key, layer):
                text = "its content was not that of its digest; it is replaced, so launch again"
            return Problem(subject=f"{store.url}/{key}", message=text)
    return None


def _hash_layer(data: bytes) -> str:
    """Return the digest of a packed layer's content, empty for what cannot be unpacked."""
    found = hashlib.sha256()
    try:
        for content in zstd.decode_all(data):
            found.update(content)
    except AgentError:
        return ""
    return f"sha256:{found.hexdigest()}"
