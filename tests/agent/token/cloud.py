"""A bucket of Cloud Storage, a service account, and a machine that has its token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.gcs import GUEST

if TYPE_CHECKING:
    from envboot.store.gcs.store import GcsStore
    from tests.boot.gce_metadata import GceMetadataServer
    from tests.gcs import GcsFront


@dataclass(kw_only=True, slots=True)
class Cloud:
    """A bucket behind a front that checks tokens, and the metadata server that gives them.

    As Google's, the latter hands the same token out until it is nearly over.
    """

    store: GcsStore
    front: GcsFront
    metadata: GceMetadataServer
    host: str
    given: dict[str, Any] = field(default_factory=dict)

    def give_token(self, seconds: float = 3600, *scopes: str) -> str:
        """Let the machine's account have a new token; returns it."""
        self.given = self.front.issue(GUEST, seconds, *scopes)
        self.metadata.give_account(GUEST, lambda: self.given, *scopes)
        return str(self.given["access_token"])

    @property
    def asked_for_token(self) -> int:
        """How often the token was fetched."""
        return sum(path.endswith("/default/token") for path in self.metadata.requests)
