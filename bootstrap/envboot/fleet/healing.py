"""A published archive that machines could not use: checked here, and removed if it is damaged."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from envboot.errors import StoreError
from envboot.publish.bases import PublishedBase, heal_base
from envboot.publish.layout import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable

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
