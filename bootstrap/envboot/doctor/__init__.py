"""What stands in the way of a launch, found by trying: one check, one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from envboot.errors import EnvbootError
    from envboot.session import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What one probe found, in words; `hint` is what to do about it.

    A `warning` is what launches go on with, `failed` what they do not; `skipped` could not be
    tried, and `detail` says why.
    """

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    hint: str | None = None


def to_check(name: str, error: EnvbootError) -> Check:
    """Return the check that an error makes."""
    causes = "; ".join(error.causes)
    detail = f"{error.message}: {causes}" if causes else error.message
    return Check(name=name, status="failed", detail=detail, hint=error.hint)


def check_store(url: str, session: Session, now: Callable[[], datetime]) -> Iterator[Check]:
    """Probe a bucket with the identity that launches use; what the probes write is removed.

    `now` is this machine's clock.

    Raises:
        UsageError: the URL is that of no bucket.
    """
    if url.startswith("s3:"):
        from envboot.doctor.s3 import check_s3

        yield from check_s3(url, session, now)
        return
    if url.startswith("gs:"):
        from envboot.doctor.gcs import check_gcs

        yield from check_gcs(url, session, now)
        return
    from envboot.doctor.objects import check_objects
    from envboot.store import open_store

    with open_store(url, session) as store:
        yield from check_objects(store)
