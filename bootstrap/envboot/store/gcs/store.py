"""A Cloud Storage bucket, through Google's own client."""

from __future__ import annotations

import contextlib
import io
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from google.api_core import exceptions as api
from google.cloud.storage.retry import DEFAULT_RETRY

from envboot.store.gcs.connection import GcsConnection
from envboot.store.gcs.errors import is_missing_bucket
from envboot.store.gcs.lifecycle import find_expiry
from envboot.store.gcs.resumable import send_file
from envboot.store.gcs.signing import sign_form
from envboot.store.keys import check_key, is_old
from envboot.store.protocol import (
    DAY,
    MOST,
    Expiry,
    Listing,
    RoleAccess,
    SignedPost,
    SignedPut,
    Stat,
    refuse_large,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from envboot.config import GcsSettings

MAX_SECONDS = 7 * 24 * 3600
"""https://docs.cloud.google.com/storage/docs/authentication/signatures"""

MANAGED_SECONDS = 12 * 3600
"""Google's own keys, which IAM signs with, are changed: their signatures hold so long at least
(https://docs.cloud.google.com/storage/docs/authentication/creating-signatures)."""

CREATE_ONLY = {"x-goog-if-generation-match": "0"}

RETRY = DEFAULT_RETRY.with_timeout(30)
"""A burst of 429 or 503 is ridden out; a wrong endpoint fails as late."""


class _TooLargeError(Exception):
    """More came than there is room for."""


class _Bounded(io.BytesIO):
    """Bytes that are downloaded, up to so many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        """Take more bytes; raises `_TooLargeError`."""
        if self.tell() + len(data) > self._most:
            raise _TooLargeError
        return super().write(data)


class GcsStore:
    """`gs://bucket/prefix`, with the credentials that Google's libraries find."""

    def __init__(
        self, url: str, *, environment: Mapping[str, str], settings: GcsSettings | None = None
    ):
        self.connection = GcsConnection(url, environment, settings)
        self.url = self.connection.url
        self._root = self.connection.root
        self._explained = self.connection.explained
        self._lifecycle: list[dict[str, Any]] | None = None

    @property
    def _bucket(self) -> Any:
        return self.connection.bucket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.client.close()

    def check(self, *, signs: bool) -> None:
        """Refuse a bucket that is not there; with `signs` also credentials that cannot sign.

        Whether a person's can is seen before anybody is asked.
        """
        if signs:
            with self._explained("sign for"):
                _ = self.connection.signer
        with self._explained("find"), contextlib.suppress(api.Forbidden):
            self.connection.ensure_token()
            prefix = f"{self._root}reports/"
            found = self.connection.client.list_blobs(
                self._bucket, prefix=prefix, max_results=1, retry=RETRY
            )
            next(iter(found), None)

    def find(self, key: str) -> Stat | None:
        """Return what is known of one object, None where there is none."""
        with self._explained("read", key):
            found = self._find(key)
        return _stat(key, found) if found else None

    def _find(self, key: str) -> Any:
        blob = self._bucket.blob(self._name(key))
        try:
            blob.reload(retry=RETRY)
        except api.NotFound as error:
            if is_missing_bucket(error):
                raise
            return None
        return blob

    def read(self, key: str, *, most: int = MOST) -> bytes | None:
        """Return a whole small object, None where there is none; raises as the protocol says."""
        with self._explained("read", key):
            try:
                target = _Bounded(most)
                self._bucket.blob(self._name(key)).download_to_file(target, retry=RETRY)
            except _TooLargeError:
                raise refuse_large(self.url, key, most) from None
            except api.NotFound as error:
                if is_missing_bucket(error):
                    raise
                return None
            return target.getvalue()

    def create(
        self, key: str, data: bytes | Path, progress: Callable[[int], None] | None = None
    ) -> bool:
        """Write an object that must not exist yet; False when it is already there."""
        with self._explained("write", key):
            blob = self._blob(key)
            try:
                if not isinstance(data, bytes):
                    send_file(self.connection, blob.name, data, progress)
                    return True
                blob.upload_from_string(data, if_generation_match=0, retry=RETRY)
            except api.PreconditionFailed:
                return False
        if progress:
            progress(len(data))
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._explained("remove", key):
            try:
                self._bucket.blob(self._name(key)).delete(retry=RETRY)
            except api.NotFound as error:
                if is_missing_bucket(error):
                    raise

    def renew(self, key: str, *, older: int = DAY) -> None:
        """Make an object count as new again, where it is older than so many seconds and
        the bucket expires what is old.

        Raises:
            StoreError: also where the identity may not read and write the object.
        """
        with self._explained("renew", key):
            found = self.find(key)
            if found and is_old(found, older) and self._expires(key):
                self.rewrite_in_place(key)

    def rewrite_in_place(self, key: str) -> None:
        """Rewrite an object onto itself inside the service, so that its age begins anew.

        What somebody else writes or removes meanwhile stays so. A rule's `age` counts from the
        creation of this generation, which no change of metadata moves
        (https://docs.cloud.google.com/storage/docs/lifecycle#age).
        """
        with self._explained("renew", key):
            source = self._find(key)
            if source is None:
                return
            same: Any = {
                "if_generation_match": source.generation,
                "if_source_generation_match": source.generation,
            }
            target, token = self._blob(key), None
            try:
                while True:
                    token, _, _ = target.rewrite(source, token=token, retry=RETRY, **same)
                    if token is None:
                        return
            except (api.PreconditionFailed, api.NotFound):
                return

    def _expires(self, key: str) -> bool:
        """Tell whether the bucket's rules remove an object by its age.

        An identity that may not see the rules renews: that does no harm.
        """
        if self._lifecycle is None:
            try:
                self._bucket.reload(retry=RETRY)
                self._lifecycle = [dict(rule) for rule in self._bucket.lifecycle_rules]
            except api.Forbidden:
                return True
        return find_expiry(self._lifecycle, self._root + key) is not None

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects below a key prefix, in the order of their keys."""
        yield from self._list(prefix, None).objects

    def list_folder(self, prefix: str) -> Listing:
        """Return what is right below a prefix that ends with `/`."""
        return self._list(prefix, "/")

    def _list(self, prefix: str, delimiter: str | None) -> Listing:
        with self._explained("list", prefix):
            asked = self.connection.client.list_blobs(
                self._bucket,
                prefix=self._root + prefix,
                delimiter=delimiter,
                fields="items(name,size,timeCreated),prefixes,nextPageToken",
                retry=RETRY,
            )
            blobs = sorted(asked, key=lambda blob: blob.name.encode())
            start = len(self._root + prefix)
            folders = [found[start:].rstrip("/") for found in asked.prefixes]
        return Listing(
            objects=tuple(_stat(blob.name.removeprefix(self._root), blob) for blob in blobs),
            folders=tuple(sorted(folders, key=str.encode)),
        )

    def sign_get(self, key: str, seconds: int) -> str:
        """Return a URL that reads one object (ranges too) for that long, at most 7 days."""
        return self._sign("GET", key, seconds, {})

    def sign_put(self, key: str, seconds: int) -> SignedPut:
        """Return a create-only upload of one object."""
        headers = self._create_headers()
        return SignedPut(url=self._sign("PUT", key, seconds, headers), headers=headers)

    def sign_delete(self, key: str, seconds: int) -> str:
        """Return a URL whose DELETE removes one object, for at most 7 days."""
        return self._sign("DELETE", key, seconds, {})

    def sign_post(self, prefix: str, seconds: int, max_bytes: int) -> SignedPost:
        """Return a form upload for any key below `prefix`, each of at most `max_bytes`.

        A form cannot name a KMS key: the bucket's default one encrypts.
        """
        name = self._name(prefix + "name").removesuffix("name")
        with self._explained("sign a form for", prefix):
            fields = sign_form(
                self.connection.signer,
                self.connection.name,
                name,
                max_bytes=max_bytes,
                seconds=self._limit(seconds)[0],
                now=datetime.now(timezone.utc),
            )
        url = f"{self.connection.endpoint}/{self.connection.name}"
        return SignedPost(url=url, fields=fields, prefix=name)

    def expiry(self, seconds: int) -> datetime:
        """Return when a URL signed now for `seconds` really ends (UTC)."""
        return self.limits(seconds).end

    def limits(self, seconds: int) -> Expiry:
        """Return the same, and what limits it.

        That the session ends which has signed ends no signature of Google's.
        """
        seconds, limited_by = self._limit(seconds)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        return Expiry(end=now + timedelta(seconds=seconds), limited_by=limited_by)

    def _limit(self, seconds: int) -> tuple[int, Any]:
        with_key = self.connection.signs_with_key
        most = MAX_SECONDS if with_key else MANAGED_SECONDS
        if seconds <= most:
            return seconds, "request"
        return most, "seven days" if with_key else "twelve hours"

    def role_access(self) -> RoleAccess:
        """Return how an instance asks with its own service account: where objects are."""
        return RoleAccess(
            kind="gcp",
            url=f"{self.connection.endpoint}/{self.connection.name}/{quote(self._root)}",
            headers=self._create_headers(),
        )

    def _create_headers(self) -> dict[str, str]:
        key = self.connection.settings.kms_key
        return {**CREATE_ONLY, **({"x-goog-encryption-kms-key-name": key} if key else {})}

    def _sign(self, method: str, key: str, seconds: int, headers: dict[str, str]) -> str:
        name = self._name(key)
        with self._explained("sign", key):
            url: str = self._bucket.blob(name).generate_signed_url(
                version="v4",
                expiration=self._limit(seconds)[0],
                method=method,
                # What it is given it changes.
                headers=dict(headers),
                credentials=self.connection.signer,
                api_access_endpoint=self.connection.endpoint,
            )
        return url

    def _blob(self, key: str) -> Any:
        """Return the object as it is to be written."""
        return self._bucket.blob(self._name(key), kms_key_name=self.connection.settings.kms_key)

    def _name(self, key: str) -> str:
        return self._root + check_key(key, self.url)


def _stat(key: str, blob: Any) -> Stat:
    # `updated` moves with the metadata, a rule's `age` does not.
    return Stat(key=key, size=blob.size, modified=blob.time_created.astimezone(timezone.utc))
