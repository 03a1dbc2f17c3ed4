"""What stands in the way of a launch, found by trying: one check, one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from envboot.doctor.check import Check
    from envboot.session import Session


def check_store(url: str, session: Session, now: Callable[[], datetime]) -> Iterator[Check]:
    """Probe a bucket with the identity that launches use; what the probes write is removed.

    `now` is this machine's clock.

    Raises:
        UsageError: the URL is that of no bucket, or its cloud's extra is not installed.
    """
    if url.startswith("s3:"):
        require("aws", f"Bucket `{url}`")
        from envboot.doctor.s3 import check_s3

        yield from check_s3(url, session, now)
        return
    if url.startswith("gs:"):
        require("gcp", f"Bucket `{url}`")
        from envboot.doctor.gcs import check_gcs

        yield from check_gcs(url, session, now)
        return
    from envboot.doctor.objects import check_objects
    from envboot.store import open_store

    with open_store(url, session) as store:
        yield from check_objects(store)
