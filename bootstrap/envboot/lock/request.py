"""What is to be locked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.lock.target import Target
    from envboot.scan.schema import Distribution, Scan, Source
    from envboot.session import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class LockRequest:
    """What is to be locked; `sources` are the projects that the layer brings."""

    scan: Scan
    sources: tuple[Source, ...]
    target: Target
    session: Session
    fresh: bool
    add: tuple[str, ...]
    exact: frozenset[str]
    ignored: frozenset[str] = frozenset()

    @property
    def asked(self) -> set[str]:
        """The names in `add`, normalised."""
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        return {canonicalize_name(Requirement(text).name) for text in self.add}

    @property
    def from_indexes(self) -> tuple[Distribution, ...]:
        """What pip or uv installed from an index, each name once (the first on the path)."""
        ours = {source.name for source in self.sources}
        found: dict[str, Distribution] = {}
        for item in self.scan.distributions:
            if item.conda is None and item.name not in ours:
                found.setdefault(item.name, item)
        return tuple(found.values())
