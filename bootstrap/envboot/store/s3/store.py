"""An S3 bucket, or one of a service that speaks S3, through boto3."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from envboot.errors import StoreError
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
from envboot.store.s3.connection import S3Connection
from envboot.store.s3.errors import REFUSED, UNSUPPORTED, code
from envboot.store.s3.lifecycle import find_expiry
from envboot.store.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from mypy_boto3_s3 import S3Client
    from typing_extensions import Self

    from envboot.config import S3Settings

MAX_SINGLE_PUT = 5 * 1024**3
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html"""

MAX_SECONDS = 7 * 24 * 3600
"""A SigV4 URL lives at most 7 days; S3 refuses a longer one only when it is used."""

_RACES = 5

_ENCRYPTION = {
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}
"""boto3's names, and the headers that a guest sends."""


class S3Store:
    """`s3://bucket/prefix`, with the credentials, region and endpoint that boto3 finds."""

    def __init__(
        self, url: str, *, environment: Mapping[str, str], settings: S3Settings | None = None
    ):
        self.connection = S3Connection(url, environment, settings)
        self.url = self.connection.url
        self._bucket = self.connection.bucket
        self._root = self.connection.root
        self._explained = self.connection.explained
        self._lifecycle: list[Any] | None = None

    @property
    def _client(self) -> S3Client:
        # The connection makes another one when it has found the bucket's region.
        return self.connection.client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def check(self, *, signs: bool) -> None:
        """Refuse a bucket that is not there; whoever may ask S3 at all can sign, too."""
        del signs
        with self._explained("find"):
            self.connection.locate()

    def find(self, key: str) -> Stat | None:
        """Return what is known of one object, None where there is none."""
        with self._explained("read", key):
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if code(error) in ("400", "403"):
                    self._ask_why(key)
                if code(error) not in ("404", "NoSuchKey"):
                    raise
                # A HEAD has no body that could tell a missing bucket from a missing object.
                self.connection.locate()
                return None
        return Stat(
            key=key,
            size=found["ContentLength"],
            modified=found["LastModified"].astimezone(timezone.utc),
        )

    def _ask_why(self, key: str) -> None:
        """Ask again for what HEAD refused: only the answer to a GET has a reason."""
        answer = self._client.get_object(
            Bucket=self._bucket, Key=self._name(key), Range="bytes=0-0"
        )
        answer["Body"].close()

    def read(self, key: str, *, most: int = MOST) -> bytes | None:
        """Return a whole small object, None where there is none; raises as the protocol says."""
        with self._explained("read", key):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
                if found["ContentLength"] > most:
                    found["Body"].close()
                    raise refuse_large(self.url, key, most)
                return found["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

    def create(
        self, key: str, data: bytes | Path, progress: Callable[[int], None] | None = None
    ) -> bool:
        """Write an object that must not exist yet; False when it is already there.

        Raises:
            StoreError: also for more than 5 GiB, which is what one upload can carry.
        """
        with self._explained("write", key):
            size = len(data) if isinstance(data, bytes) else data.stat().st_size
        if size > MAX_SINGLE_PUT:
            raise StoreError(
                f"Cannot write `{self.url}/{key}`: it has {size / 1e9:.1f} GB, "
                f"a create-only upload carries at most {MAX_SINGLE_PUT / 1e9:.1f} GB",
                hint="Leave out what the environment does not need",
            )
        with self._explained("write", key):
            if isinstance(data, bytes):
                created = self._put(key, data)
                if created and progress:
                    progress(size)
                return created
            with Upload(data, progress) as body:
                return self._put(key, body)

    def _put(self, key: str, body: bytes | Upload) -> bool:
        for attempt in range(_RACES):
            created = self._put_once(key, body)
            if created is not None:
                return created
            time.sleep(0.2 * 2**attempt)
        raise StoreError(
            f"Failed to write `{self.url}/{key}`",
            causes=("Other uploads of the same object are under way",),
            hint="Try again in a minute",
        )

    def _put_once(self, key: str, body: bytes | Upload) -> bool | None:
        if isinstance(body, Upload):
            body.seek(0)
            body.sending = False
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._name(key),
                Body=body,
                IfNoneMatch="*",
                **self._encryption(),
            )
        except ClientError as error:
            if code(error) in ("PreconditionFailed", "412"):
                return False
            # Another upload of the same key is under way; it may still fail.
            if code(error) in ("ConditionalRequestConflict", "409"):
                return None
            raise
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._explained("remove", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def renew(self, key: str, *, older: int = DAY) -> None:
        """Make an object count as new again, where it is older than so many seconds and
        the bucket expires what is old.

        Raises:
            StoreError: also where the identity may not read and write the object.
        """
        with self._explained("renew", key):
            found = self.find(key)
            if found and is_old(found, older) and self._expires(key):
                self.copy_in_place(key)

    def copy_in_place(self, key: str) -> None:
        """Copy an object onto itself inside the service, so that its age begins anew.

        What somebody else writes or removes meanwhile stays so.
        """
        with self._explained("renew", key):
            name = self._name(key)
            head: Any = self._client.head_object(Bucket=self._bucket, Key=name)
            same = {
                member: head[member]
                for member in (*_ENCRYPTION, "ContentType", "Metadata", "StorageClass")
                if head.get(member)
            }
            try:
                self._client.copy_object(
                    Bucket=self._bucket,
                    Key=name,
                    CopySource={"Bucket": self._bucket, "Key": name},
                    CopySourceIfMatch=head["ETag"],
                    # S3 refuses a copy onto itself that changes nothing.
                    MetadataDirective="REPLACE",
                    **{**same, **self._encryption()},
                )
            except ClientError as error:
                if code(error) not in ("PreconditionFailed", "412", "NoSuchKey", "404"):
                    raise

    def _expires(self, key: str) -> bool:
        """Tell whether the bucket's rules remove an object by its age.

        An identity that may not see the rules renews: that does no harm.
        """
        if self._lifecycle is None:
            try:
                self._lifecycle = self._client.get_bucket_lifecycle_configuration(
                    Bucket=self._bucket
                )["Rules"]
            except ClientError as error:
                if code(error) == "NoSuchLifecycleConfiguration" or code(error) in UNSUPPORTED:
                    self._lifecycle = []
                elif code(error) in REFUSED:
                    return True
                else:
                    raise
        return find_expiry(self._lifecycle, self._root + key) is not None

    def _encryption(self) -> dict[str, Any]:
        key = self.connection.settings.kms_key
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}

    def _create_headers(self) -> dict[str, str]:
        return {"If-None-Match": "*", **self._encryption_headers()}

    def _encryption_headers(self) -> dict[str, str]:
        return {_ENCRYPTION[member]: value for member, value in self._encryption().items()}

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects below a key prefix, in the order of their keys."""
        yield from self._list(prefix, "").objects

    def list_folder(self, prefix: str) -> Listing:
        """Return what is right below a prefix that ends with `/`."""
        return self._list(prefix, "/")

    def _list(self, prefix: str, delimiter: str) -> Listing:
        more: Any = {"Delimiter": delimiter} if delimiter else {}
        with self._explained("list", prefix):
            asked = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._root + prefix, **more
            )
            pages = [*asked]
        objects = [
            Stat(
                key=found["Key"].removeprefix(self._root),
                size=found["Size"],
                modified=found["LastModified"].astimezone(timezone.utc),
            )
            for page in pages
            for found in page.get("Contents", [])
        ]
        start = len(self._root + prefix)
        folders = {
            found["Prefix"][start:].rstrip("/")
            for page in pages
            for found in page.get("CommonPrefixes", [])
        }
        # S3 sorts; services that keep folders (SeaweedFS, directory buckets) sort those apart.
        objects.sort(key=lambda found: found.key.encode())
        return Listing(objects=tuple(objects), folders=tuple(sorted(folders, key=str.encode)))

    def sign_get(self, key: str, seconds: int) -> str:
        """Return a URL that reads one object (ranges too) for that long, at most 7 days."""
        return self._presign("get_object", key, seconds)

    def sign_put(self, key: str, seconds: int) -> SignedPut:
        """Return a create-only upload of one object."""
        url = self._presign("put_object", key, seconds, IfNoneMatch="*", **self._encryption())
        return SignedPut(url=url, headers=self._create_headers(), max_bytes=MAX_SINGLE_PUT)

    def sign_delete(self, key: str, seconds: int) -> str:
        """Return a URL whose DELETE removes one object, for at most 7 days."""
        return self._presign("delete_object", key, seconds)

    def sign_post(self, prefix: str, seconds: int, max_bytes: int) -> SignedPost:
        """Return a form upload for any key below `prefix`, each of at most `max_bytes`."""
        name = self._name(prefix + "name").removesuffix("name")
        extra = self._encryption_headers()
        with self._explained("sign a form for", prefix):
            self.connection.locate()
            form = self._client.generate_presigned_post(
                self._bucket,
                name + "${filename}",
                Fields=dict(extra),
                Conditions=[
                    ["content-length-range", 0, max_bytes],
                    *({field: value} for field, value in extra.items()),
                ],
                ExpiresIn=min(seconds, MAX_SECONDS),
            )
        fields = {field: value for field, value in form["fields"].items() if field != "key"}
        return SignedPost(url=form["url"], fields=fields, prefix=name)

    def expiry(self, seconds: int) -> datetime:
        """Return when a URL signed now for `seconds` really ends (UTC).

        The smallest of the request, 7 days and, where it is known, the credentials' own end.
        """
        return self.limits(seconds).end

    def limits(self, seconds: int) -> Expiry:
        """Return the same, and what limits it."""
        now = datetime.now(timezone.utc).replace(microsecond=0)
        end = now + timedelta(seconds=min(seconds, MAX_SECONDS))
        own, is_session = self.connection.session_end()
        if own and own < end:
            return Expiry(end=own.astimezone(timezone.utc), limited_by="credentials")
        return Expiry(
            end=end,
            limited_by="request" if seconds <= MAX_SECONDS else "seven days",
            known=own is not None or not is_session,
        )

    def role_access(self) -> RoleAccess:
        """Return how an instance asks with its own role: where objects are, and the region."""
        with self._explained("find"):
            self.connection.locate()
            # A presigned URL without its query: path style or virtual host, as boto3 decides.
            signed = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._root + "name"}
            )
        url = signed.partition("?")[0].removesuffix("name")
        return RoleAccess(
            kind="aws",
            url=url,
            headers=self._create_headers(),
            region=self._client.meta.region_name,
            max_bytes=MAX_SINGLE_PUT,
        )

    def _presign(self, method: str, key: str, seconds: int, **extra: str) -> str:
        with self._explained("sign", key):
            self.connection.locate()
            return self._client.generate_presigned_url(
                method,
                Params={"Bucket": self._bucket, "Key": self._name(key), **extra},
                ExpiresIn=min(seconds, MAX_SECONDS),
            )

    def _name(self, key: str) -> str:
        return self._root + check_key(key, self.url)
