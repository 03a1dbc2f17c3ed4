"""The user's own bucket: create-only objects, signed URLs, nothing in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envboot.errors import UsageError
from envboot.extras import require

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from envboot.session import Session
    from envboot.store.protocol import Store


def open_store(
    url: str, session: Session, *, guest_loopback: str = "127.0.0.1"
) -> AbstractContextManager[Store]:
    """Open the bucket behind `file:///folder`, `s3://bucket/prefix` or `gs://bucket/prefix`.

    `guest_loopback` is the name by which a guest reaches this machine's loopback: it stands
    in the URLs that the embedded server of `file://` signs. The project's own settings for each
    cloud come before the environment's.

    Raises:
        UsageError: it is the URL of no bucket, or its cloud's extra is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        from envboot.store.local.store import LocalStore

        return LocalStore(url, guest_loopback=guest_loopback)
    if scheme == "s3":
        require("aws", f"Bucket `{url}`")
        from envboot.store.s3.store import S3Store

        return S3Store(url, settings=session.settings.s3, environment=session.environment)
    if scheme == "gs":
        require("gcp", f"Bucket `{url}`")
        from envboot.store.gcs.store import GcsStore

        return GcsStore(url, settings=session.settings.gcs, environment=session.environment)
    raise UsageError(
        "Expected a store URL such as `file:///folder`, `s3://bucket/prefix` or "
        f"`gs://bucket/prefix`, found `{url}`"
    )
