"""Which keys a store accepts, and which objects are old: the same for every kind of bucket."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from envboot.errors import StoreError

if TYPE_CHECKING:
    from envboot.store.protocol import Stat

RESERVED = ".envboot-"
"""Names that begin so are the local store's own: its signing key and unfinished files."""


def is_old(found: Stat, seconds: int) -> bool:
    """Tell whether an object was last written longer ago than that."""
    return (datetime.now(timezone.utc) - found.modified).total_seconds() > seconds


def find_fault(key: str) -> str | None:
    """Return what is wrong with a key, None where nothing is.

    Refused is whatever a file system or an HTTP client would read as another key: empty,
    `.` and `..` parts, a leading or trailing slash, control characters, more than 1,024 bytes
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html).
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "it has an empty, `.` or `..` part"
    if any(part.startswith(RESERVED) for part in parts):
        return f"names that begin with `{RESERVED}` are reserved"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if size > 1024 or max(len(part.encode()) for part in parts) > 255:
        return "it is longer than 1,024 bytes, or one part of it longer than 255"
    if any(ord(character) < 32 or ord(character) == 127 for character in key):
        return "it has a control character"
    return None


def check_key(key: str, store: str) -> str:
    """Return the key itself.

    Raises:
        StoreError: the key could mean something else on the way to the bucket.
    """
    if fault := find_fault(key):
        raise StoreError(f"Cannot use the key `{key!a}` in `{store}`", causes=(fault,))
    return key
