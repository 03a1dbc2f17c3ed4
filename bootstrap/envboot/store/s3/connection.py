"""One bucket as boto3 reaches it: whose credentials, which endpoint, the bucket's own region."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from envboot.config import S3Settings
from envboot.errors import UsageError
from envboot.store.s3.errors import S3Place, code, explain
from envboot.store.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

ATTEMPTS = 5
"""A burst of `SlowDown` or 500 is ridden out in up to 15 s; a wrong endpoint fails as late."""


class S3Connection:
    """A session and a client for `s3://bucket/prefix`; `root` is the prefix with its slash.

    The project's settings come before what boto3 finds by itself, as arguments in code do. boto3
    reads `AWS_…` variables and its files from the process, which nothing can change; what it does
    not know by itself comes from `environment`.
    """

    def __init__(
        self, url: str, environment: Mapping[str, str], settings: S3Settings | None = None
    ):
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"Expected a bucket such as `s3://bucket/prefix`, found `{url}`")
        self.url = url.rstrip("/")
        self.settings = settings or S3Settings()
        self.bucket = parts.netloc
        self.root = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self.located = False
        with self.explained("open"):
            self.session = boto3.session.Session()
            self.session.events.register("before-send.s3.PutObject", _mark_sending)
            # The AWS CLI and all other SDKs read `AWS_REGION`; botocore knows its older name only.
            self.client = self._connect(self.settings.region or environment.get("AWS_REGION"))

    def _connect(self, region: str | None, attempts: int = ATTEMPTS) -> S3Client:
        # Checksums in trailers are unknown to many services that speak S3, and would become
        # part of what a presigned PUT demands; SigV4 signs the payload's sha256 anyway.
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=10,
            tcp_keepalive=True,
            max_pool_connections=32,
        )
        return self.session.client(
            "s3", region_name=region, endpoint_url=self.settings.endpoint_url, config=config
        )

    def use_region(self, region: str) -> None:
        """Go on in another region, from now on."""
        self.client = self._connect(region)

    def impatient(self) -> S3Client:
        """Return a client that does not try again, to find out how a service answers."""
        return self._connect(self.region, attempts=1)

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        name = self.client.meta.region_name
        # boto3's name for no region at all.
        return "us-east-1" if name in (None, "aws-global") else name

    @property
    def endpoint(self) -> str:
        """The URL of the service."""
        return self.client.meta.endpoint_url

    @property
    def is_aws(self) -> bool:
        """Whether the service is Amazon's, and no other one that speaks S3."""
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def is_encrypted(self) -> bool:
        """Whether requests go over TLS."""
        return self.endpoint.startswith("https:")

    @property
    def place(self) -> S3Place:
        """What errors are about."""
        return S3Place(
            bucket=self.bucket,
            root=self.root,
            # The client is not there yet while its own making fails.
            region=self.region if hasattr(self, "client") else None,
            kms_key=self.settings.kms_key,
        )

    def locate(self) -> None:
        """Make sure, once, that the bucket exists and that signatures name its own region.

        boto3 follows S3 to the right region for requests of its own; a guest's would fail.
        """
        if self.located:
            return
        try:
            answer: Any = self.client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            # 403: the identity may lack s3:ListBucket and be able to read all the same.
            if code(error) not in ("403", "AccessDenied", "301", "400"):
                raise
            answer = error.response
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region")
        if region and region != self.client.meta.region_name:
            self.use_region(region)
        self.located = True

    def session_end(self) -> tuple[datetime | None, bool]:
        """Return when the credentials end, and whether they do end, known or not.

        boto3 knows of roles, single sign-on, `credential_process`, the metadata services and
        `AWS_CREDENTIAL_EXPIRATION`; not of a bare session token in a file or a variable.
        """
        with self.explained("sign for"):
            credentials = self.session.get_credentials()
            if credentials is None:
                return None, False
            # Refreshes what is about to expire, as signing itself does.
            token = credentials.get_frozen_credentials().token
        # botocore has no public name for it.
        end: datetime | None = getattr(credentials, "_expiry_time", None)
        return end, end is not None or bool(token)

    @contextlib.contextmanager
    def explained(self, action: str, key: str = "") -> Iterator[None]:
        """Raise what boto3 and files raise as a `StoreError` that says what to do."""
        try:
            yield
        except (BotoCoreError, ClientError, OSError, ValueError, RuntimeError) as error:
            # botocore's only RuntimeError, of credentials that cannot be renewed any more.
            if isinstance(error, RuntimeError) and "expired" not in str(error):
                raise
            target = f"{self.url}/{key}" if key else self.url
            raise explain(error, f"Failed to {action} `{target}`", self.place) from error


def _mark_sending(request: Any, **_: Any) -> None:
    """Tell an upload that botocore has hashed it and now sends it."""
    if isinstance(request.body, Upload):
        request.body.sending = True
