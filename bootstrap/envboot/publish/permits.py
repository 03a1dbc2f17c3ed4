"""The right to publish a base, apart from everything that a command can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.documents import plain
from envboot.publish.grants import PutGrant, Terms
from envboot.publish.layout import Keys

if TYPE_CHECKING:
    from envboot.manifest import Manifest
    from envboot.store.protocol import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Permit:
    """The right to publish a base: an object that machines read, and remove before a command.

    What a command can read for as long as it runs must never tell how to write an archive.
    """

    archive: PutGrant
    index: PutGrant
    max_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        found: dict[str, Any] = plain(self)
        return found


def make_permit(manifest: Manifest, store: Store, terms: Terms) -> Permit:
    """Return how machines without a role may publish the base.

    Raises:
        StoreError: nothing can be signed.
    """
    keys = Keys(manifest)
    archive = store.sign_put(keys.archive, terms.seconds)
    index = store.sign_put(keys.index, terms.seconds)
    return Permit(
        archive=PutGrant(url=archive.url, headers=archive.headers),
        index=PutGrant(url=index.url, headers=index.headers),
        # The agent must know how large what may be large can get.
        max_bytes=archive.max_bytes or None,
    )
