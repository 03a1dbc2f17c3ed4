"""An S3 bucket, or one of a service that speaks S3, through boto3."""

from __future__ import annotations

import contextlib
import io
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bootstrap.errors import StoreError, UsageError
from bootstrap.store import RoleAccess, SignedPost, SignedPut, Stat
from bootstrap.store.keys import check_key
from bootstrap.store.s3_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from mypy_boto3_s3 import S3Client
    from typing_extensions import Self

MAX_SINGLE_PUT = 5 * 1024**3
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html"""

MAX_SECONDS = 7 * 24 * 3600
"""A SigV4 URL lives at most 7 days; S3 refuses a longer one only when it is used."""

CHUNK = 1 << 20
"""Bytes between two reports of progress."""

_RACES = 5


class S3Store:
    """`s3://bucket/prefix`, with the credentials, region and endpoint that boto3 finds.

    With a session token whose expiry is unknown (from the environment), signed URLs may end
    earlier than `expiry` says: S3 does not tell.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"Expected a bucket such as `s3://bucket/prefix`, found `{url}`")
        self.url = url.rstrip("/")
        self._bucket = parts.netloc
        self._root = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._located = False
        with self._explained("open"):
            self._session = boto3.session.Session()
            self._client = self._connect(None)

    def _connect(self, region: str | None) -> S3Client:
        # Checksums in trailers are unknown to many services that speak S3, and would become
        # part of what a presigned PUT demands; SigV4 signs the payload's sha256 anyway.
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=10,
            tcp_keepalive=True,
            max_pool_connections=32,
        )
        client = self._session.client("s3", region_name=region, config=config)
        client.meta.events.register("before-send.s3.PutObject", _mark_sending)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def find(self, key: str) -> Stat | None:
        """Return what is known of one object, None where there is none."""
        with self._explained("read", key):
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if _code(error) not in ("404", "NoSuchKey"):
                    raise
                # A HEAD has no body that could tell a missing bucket from a missing object.
                self._locate()
                return None
        return Stat(
            key=key,
            size=found["ContentLength"],
            modified=found["LastModified"].astimezone(timezone.utc),
        )

    def read(self, key: str) -> bytes | None:
        """Return a whole small object, None where there is none."""
        with self._explained("read", key):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
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
            with _Body(data, progress) as body:
                return self._put(key, body)

    def _put(self, key: str, body: bytes | _Body) -> bool:
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

    def _put_once(self, key: str, body: bytes | _Body) -> bool | None:
        if isinstance(body, _Body):
            body.seek(0)
            body.sending = False
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=self._name(key), Body=body, IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) in ("PreconditionFailed", "412"):
                return False
            # Another upload of the same key is under way; it may still fail.
            if _code(error) in ("ConditionalRequestConflict", "409"):
                return None
            raise
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._explained("remove", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def renew(self, key: str) -> None:
        """Make an object count as new again, where it is older than a day and the bucket expires
        what is old."""

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects below a key prefix, in the order of their keys."""
        with self._explained("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._root + prefix
            )
            objects = [found for page in pages for found in page.get("Contents", [])]
        # S3 sorts; services that keep folders (SeaweedFS, directory buckets) sort those apart.
        for found in sorted(objects, key=lambda found: found["Key"].encode()):
            yield Stat(
                key=found["Key"].removeprefix(self._root),
                size=found["Size"],
                modified=found["LastModified"].astimezone(timezone.utc),
            )

    def sign_get(self, key: str, seconds: int) -> str:
        """Return a URL that reads one object (ranges too) for that long, at most 7 days."""
        return self._presign("get_object", key, seconds)

    def sign_put(self, key: str, seconds: int) -> SignedPut:
        """Return a create-only upload of one object."""
        url = self._presign("put_object", key, seconds, IfNoneMatch="*")
        return SignedPut(url=url, headers={"If-None-Match": "*"})

    def sign_post(self, prefix: str, seconds: int, max_bytes: int) -> SignedPost:
        """Return a form upload for any key below `prefix`, each of at most `max_bytes`."""
        name = self._name(prefix + "name").removesuffix("name")
        with self._explained("sign a form for", prefix):
            self._locate()
            form = self._client.generate_presigned_post(
                self._bucket,
                name + "${filename}",
                Conditions=[["content-length-range", 0, max_bytes]],
                ExpiresIn=min(seconds, MAX_SECONDS),
            )
        fields = {field: value for field, value in form["fields"].items() if field != "key"}
        return SignedPost(url=form["url"], fields=fields, prefix=name)

    def expiry(self, seconds: int) -> datetime:
        """Return when a URL signed now for `seconds` really ends (UTC).

        The smallest of the request, 7 days and, where it is known, the credentials' own end.
        """
        now = datetime.now(timezone.utc).replace(microsecond=0)
        end = now + timedelta(seconds=min(seconds, MAX_SECONDS))
        with self._explained("sign for"):
            credentials = self._session.get_credentials()
            if credentials:
                # Refreshes what is about to expire, as signing itself does.
                credentials.get_frozen_credentials()
        # botocore has no public name for it.
        own: datetime | None = getattr(credentials, "_expiry_time", None)
        return min(end, own.astimezone(timezone.utc)) if own else end

    def role_access(self) -> RoleAccess:
        """Return how an instance asks with its own role: where objects are, and the region."""
        with self._explained("find"):
            self._locate()
            # A presigned URL without its query: path style or virtual host, as boto3 decides.
            signed = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._root + "name"}
            )
        url = signed.partition("?")[0].removesuffix("name")
        return RoleAccess(kind="aws", url=url, region=self._client.meta.region_name)

    def _presign(self, method: str, key: str, seconds: int, **extra: str) -> str:
        with self._explained("sign", key):
            self._locate()
            return self._client.generate_presigned_url(
                method,
                Params={"Bucket": self._bucket, "Key": self._name(key), **extra},
                ExpiresIn=min(seconds, MAX_SECONDS),
            )

    def _locate(self) -> None:
        """Make sure, once, that the bucket exists and that signatures name its own region.

        boto3 follows S3 to the right region for requests of its own; a guest's would fail.
        """
        if self._located:
            return
        try:
            answer: Any = self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            # 403: the identity may lack s3:ListBucket and be able to read all the same.
            if _code(error) not in ("403", "AccessDenied", "301", "400"):
                raise
            answer = error.response
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region")
        if region and region != self._client.meta.region_name:
            self._client = self._connect(region)
        self._located = True

    def _name(self, key: str) -> str:
        return self._root + check_key(key, self.url)

    @contextlib.contextmanager
    def _explained(self, action: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            target = f"{self.url}/{key}" if key else self.url
            raise explain(error, f"Failed to {action} `{target}`", self._bucket) from error


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


class _Body(io.FileIO):
    """A file on its way. botocore reads it twice, to hash it and to send it: only that counts."""

    def __init__(self, path: Path, progress: Callable[[int], None] | None):
        super().__init__(path)
        self.sending = False
        self._progress = progress
        self._told = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size) or b""
        at = self.tell()
        if self.sending and self._progress and (not data or abs(at - self._told) >= CHUNK):
            self._told = at
            self._progress(at)
        return data


def _mark_sending(request: Any, **_: Any) -> None:
    if isinstance(request.body, _Body):
        request.body.sending = True
