"""What every kind of bucket can do, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from envboot.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path


class MalformedError(StoreError):
    """The bucket holds, in the place of a document, what envboot never writes there."""


MOST = 64 << 20
"""Bytes of a document at most: whoever may write to the bucket could fill the reader's memory."""
DAY = 24 * 3600
"""Seconds for which a bucket keeps a layer at least (`envboot store init`), and after which what
is used counts as old."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stat:
    """One object: its key below the store's root, size in bytes, last change (UTC)."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What is right below a prefix: objects, and the names of folders, in the order of keys."""

    objects: tuple[Stat, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedPut:
    """A create-only upload: the guest sends exactly these headers with its PUT.

    `max_bytes` is what one such upload can carry, None where no archive is that large.
    """

    url: str
    headers: dict[str, str]
    max_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedPost:
    """A bounded form upload below one key prefix, for small reports.

    The guest posts `multipart/form-data`: `key` (prefix + name), every one of `fields`, and
    last `file`. (S3: POST policy with `starts-with` and `content-length-range`.)
    """

    url: str
    fields: dict[str, str]
    prefix: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleAccess:
    """What an instance must know to ask with its own role, signing each request itself.

    `kind` is who gives the credentials: the name of the agent's module that asks for them. `url`
    ends with `/`: an object is at `url` + its key, percent-encoded. `headers` go with every
    create-only upload (the precondition, encryption); they name no secret. `region` is for
    signatures that name one. `max_bytes` is what one upload can carry.
    """

    kind: Literal["aws", "gcp"]
    url: str
    headers: dict[str, str]
    region: str | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiry:
    """When a URL signed now really ends (UTC), and what ends it.

    Where `known` is false, credentials of a session sign whose end nobody tells: the URL may end
    earlier.
    """

    end: datetime
    limited_by: Literal["request", "seven days", "twelve hours", "credentials"]
    known: bool = True

    def __str__(self) -> str:
        """Say until when, and why no longer."""
        text = f"until {self.end:%Y-%m-%dT%H:%M:%SZ}"
        if self.limited_by == "seven days":
            text += ", seven days, the longest there is"
        if self.limited_by == "twelve hours":
            text += ", twelve hours, for which a key that Google manages signs"
        if self.limited_by == "credentials":
            text += ", when the credentials that signed them end"
        return text if self.known else f"{text}, or until the session that signed them ends"

    @property
    def is_short(self) -> bool:
        """Whether they may end before the time that was asked for."""
        return self.limited_by != "request" or not self.known


def refuse_large(url: str, key: str, most: int) -> MalformedError:
    """Return the error for an object of more than `most` bytes."""
    return MalformedError(
        f"Cannot read `{url}/{key}`: it is larger than {most:,} bytes",
        hint="envboot writes no document of that size there; see who did, and remove it",
    )


class Store(Protocol):
    """What every kind of bucket can do. Keys are relative to the store's root.

    A store is a context: whatever it needs to serve signed URLs (the embedded server of
    `file://`) lives until its end. Every method raises `StoreError` naming bucket and key.
    """

    url: str

    def check(self, *, signs: bool) -> None:
        """Refuse a bucket that is not there; with `signs` also credentials that cannot sign.

        It asks at most once for what a launch asks anyway. That this identity is not let is for
        the launch itself to tell, which asks for more.
        """

    def find(self, key: str) -> Stat | None:
        """Return what is known of one object, None where there is none."""

    def read(self, key: str, *, most: int = MOST) -> bytes | None:
        """Return a whole small object, None where there is none.

        Raises:
            MalformedError: it is larger than `most` bytes.
        """

    def create(
        self, key: str, data: bytes | Path, progress: Callable[[int], None] | None = None
    ) -> bool:
        """Write an object that must not exist yet; False when it is already there.

        `progress` is given the number of bytes sent so far.
        """

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def renew(self, key: str, *, older: int = DAY) -> None:
        """Make an object count as new again, where it is older than so many seconds and
        the bucket expires what is old.
        """

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects below a key prefix, in the order of their keys."""

    def list_folder(self, prefix: str) -> Listing:
        """Return what is right below a prefix that ends with `/`."""

    def sign_get(self, key: str, seconds: int) -> str:
        """Return a URL that reads one object (ranges too) for that long."""

    def sign_put(self, key: str, seconds: int) -> SignedPut:
        """Return a create-only upload of one object."""

    def sign_delete(self, key: str, seconds: int) -> str:
        """Return a URL whose DELETE removes one object, for that long."""

    def sign_post(self, prefix: str, seconds: int, max_bytes: int) -> SignedPost:
        """Return a form upload for any key below `prefix`, each of at most `max_bytes`."""

    def expiry(self, seconds: int) -> datetime:
        """Return when a URL signed now for `seconds` really ends (UTC)."""

    def limits(self, seconds: int) -> Expiry:
        """Return the same, and what limits it."""

    def role_access(self) -> RoleAccess | None:
        """Return how an instance asks with its own role, None where the store knows no roles."""
