"""The right to publish a base, apart from everything that a command can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.documents import plain
from envboot.publish.grants import PutGrant, Terms
from envboot.publish.layout import Keys
from envboot.publish.own import key_proof, make_proof_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot.manifest import Manifest
    from envboot.session import Session
    from envboot.store.protocol import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofGrant:
    """Where a machine leaves the proof that it made an index, and with which key."""

    url: str
    headers: Mapping[str, str]
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Permit:
    """The right to publish a base: an object that machines read, and remove before a command.

    What a command can read for as long as it runs must never tell how to write an archive.
    `proof` is there where only this user's own archives count.
    """

    archive: PutGrant
    index: PutGrant
    proof: ProofGrant | None = None
    max_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        found: dict[str, Any] = plain(self)
        return found


def make_permit(
    manifest: Manifest, store: Store, terms: Terms, *, owner: Session | None = None
) -> Permit:
    """Return how machines without a role may publish the base.

    With `owner` they prove to that user that they did.

    Raises:
        StoreError: nothing can be signed.
    """
    keys = Keys(manifest)
    archive = store.sign_put(keys.archive, terms.seconds)
    index = store.sign_put(keys.index, terms.seconds)
    proof = None
    if owner:
        key = key_proof(keys, terms.launch, terms.first)
        signed = store.sign_put(key, terms.seconds)
        proof = ProofGrant(url=signed.url, headers=signed.headers, key=make_proof_key(owner, key))
    return Permit(
        proof=proof,
        archive=PutGrant(url=archive.url, headers=archive.headers),
        index=PutGrant(url=index.url, headers=index.headers),
        # The agent must know how large what may be large can get.
        max_bytes=archive.max_bytes or None,
    )
