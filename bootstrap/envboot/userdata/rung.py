"""What a document leaves out for the guest to fetch, one step at a time. Pure."""

from __future__ import annotations

from enum import Enum


class Rung(Enum):
    """One step of the ladder: what the guest fetches for itself, each by signed URL."""

    PLAIN = "plain"
    GZIP = "gzip"
    EXTRAS = "rare modules by signed URL"
    MANIFEST = "manifest by signed URL"
    AGENT = "agent by signed URL"
    BOTH = "manifest and agent by signed URL"

    @property
    def moves(self) -> frozenset[str]:
        """The parts that are not in the document."""
        return {
            Rung.EXTRAS: frozenset({"extras"}),
            Rung.MANIFEST: frozenset({"extras", "manifest"}),
            Rung.AGENT: frozenset({"extras", "agent"}),
            Rung.BOTH: frozenset({"extras", "manifest", "agent"}),
        }.get(self, frozenset())

    @property
    def needs(self) -> frozenset[str]:
        """The grants without which this rung cannot be taken."""
        return frozenset({"extras": "agent"}.get(part, part) for part in self.moves)
