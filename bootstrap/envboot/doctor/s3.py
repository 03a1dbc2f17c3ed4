"""An S3 bucket: who asks, what time it is there, what the bucket lets and lets not."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from envboot.doctor.check import Check
from envboot.doctor.objects import check_objects, fail
from envboot.errors import StoreError
from envboot.store.lifetimes import SHORT_LIVED
from envboot.store.s3.bucket import ABSENT, BLOCKS
from envboot.store.s3.errors import CODES, REFUSED, UNSUPPORTED, code, explain, needed, partition
from envboot.store.s3.lifecycle import find_expiry
from envboot.store.s3.policy import is_tls_only
from envboot.store.s3.store import MAX_SECONDS, S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from envboot.session import Session

SKEW_SECONDS = 300
"""From here on a launch is refused soon: S3 takes 900, other services less."""

SHORT_HOURS = 1


def check_s3(url: str, session: Session, now: Callable[[], datetime]) -> Iterator[Check]:
    """Check everything about one bucket; what cannot be tried after a failure is skipped."""
    try:
        store = S3Store(url, settings=session.settings.s3, environment=session.environment)
    except StoreError as error:
        yield fail("credentials", error)
        return
    with store:
        probe = _S3(store, now)
        yield (found := probe.credentials())
        if found.status == "failed":
            yield Check(name="bucket", status="skipped", detail="Nothing can be asked")
            return
        yield probe.identity()
        yield probe.session()
        yield (clock := probe.clock())
        if clock.status == "failed":
            yield Check(name="bucket", status="skipped", detail="Nothing can be asked")
            return
        yield (bucket := probe.bucket())
        if bucket.status == "failed":
            yield Check(name="objects", status="skipped", detail="No bucket to try them in")
            return
        yield from check_objects(
            store, renew=store.copy_in_place, describe=probe.encryption, hints=CODES
        )
        yield probe.lifecycle()
        yield probe.public_access()
        yield probe.tls()


class _S3:
    def __init__(self, store: S3Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._connection = store.connection
        self._now = now

    def credentials(self) -> Check:
        """Find credentials, and say where they come from."""
        name = "credentials"
        try:
            with self._connection.explained("sign for"):
                found = self._connection.session.get_credentials()
                key = found.get_frozen_credentials().access_key if found else None
        except StoreError as error:
            return fail(name, error)
        if not found or not key:
            hint = "Sign in (`aws sso login`, `aws configure`), or set `AWS_PROFILE`"
            return Check(name=name, status="failed", detail="None were found", hint=hint)
        shown = f"{key[:4]}…{key[-4:]}"
        return Check(
            name=name, status="ok", detail=f"Access key `{shown}`, found by `{found.method}`"
        )

    def identity(self) -> Check:
        """Ask whose they are."""
        name, connection = "identity", self._connection
        # Of services that speak S3 some answer this at the same place.
        endpoint = None if connection.is_aws else connection.endpoint
        config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
        try:
            sts = connection.session.client(
                "sts", region_name=connection.region, endpoint_url=endpoint, config=config
            )
            return Check(name=name, status="ok", detail=f"`{sts.get_caller_identity()['Arn']}`")
        except ClientError as error:
            if connection.is_aws and code(error) not in REFUSED:
                return fail(name, explain(error, name, connection.place))
            return Check(name=name, status="skipped", detail="This service does not tell")
        except BotoCoreError:
            return Check(name=name, status="skipped", detail="STS does not answer from here")

    def session(self) -> Check:
        """Say how long signed URLs can live."""
        name = "session"
        try:
            limit = self._store.limits(MAX_SECONDS)
        except StoreError as error:
            return fail(name, error)
        if not limit.known:
            return Check(
                name=name,
                status="warning",
                detail="These credentials end, and nobody tells when: signed URLs end with them",
                hint="Set `AWS_CREDENTIAL_EXPIRATION`, or use a profile that boto3 renews",
            )
        if limit.limited_by != "credentials":
            return Check(name=name, status="ok", detail="Signed URLs live up to 7 days")
        hours = (limit.end - self._now()).total_seconds() / 3600
        return Check(
            name=name,
            status="warning" if hours < SHORT_HOURS else "ok",
            detail=f"The credentials end at {limit.end:%Y-%m-%d %H:%M} UTC, in {hours:.1f} h, and "
            "signed URLs with them",
            hint="Sign in anew before a launch" if hours < SHORT_HOURS else None,
        )

    def clock(self) -> Check:
        """Compare this machine's clock with the service's."""
        name = "clock"
        try:
            with self._connection.explained("reach"):
                answer = self._head()
        except StoreError as error:
            return fail(name, error)
        date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        if not date:
            return Check(name=name, status="skipped", detail="This service does not tell the time")
        seconds = (self._now() - parsedate_to_datetime(date)).total_seconds()
        ahead = "ahead of" if seconds > 0 else "behind"
        words = f"{abs(seconds) / 60:.0f} minutes {ahead} the service's"
        if abs(seconds) < SKEW_SECONDS:
            return Check(name=name, status="ok", detail="As the service's")
        return Check(name=name, status="failed", detail=words, hint=CODES["RequestTimeTooSkewed"])

    def _head(self) -> Any:
        client = self._connection.client
        try:
            return client.head_bucket(Bucket=self._connection.bucket)
        except ClientError as error:
            return error.response

    def bucket(self) -> Check:
        """Find the bucket and its region, or why this identity is not even heard."""
        name, connection = "bucket", self._connection
        try:
            with connection.explained("find"):
                connection.locate()
                try:
                    # The answer to HEAD has no body that could tell why.
                    connection.client.list_objects_v2(
                        Bucket=connection.bucket, Prefix=connection.root, MaxKeys=1
                    )
                except ClientError as error:
                    if code(error) not in REFUSED:
                        raise
        except StoreError as error:
            return fail(name, error)
        where = f"in `{connection.region}`" if connection.is_aws else f"at `{connection.endpoint}`"
        return Check(name=name, status="ok", detail=f"`{connection.bucket}` {where}")

    def encryption(self, key: str) -> Check:
        """Say how an object that was just written is encrypted."""
        name, wanted = "encryption", self._connection.settings.kms_key
        try:
            with self._connection.explained("read", key):
                found: Any = self._connection.client.head_object(
                    Bucket=self._connection.bucket, Key=self._connection.root + key
                )
        except StoreError as error:
            return fail(name, error)
        kind, used = found.get("ServerSideEncryption"), found.get("SSEKMSKeyId", "")
        if wanted and (kind != "aws:kms" or not used):
            return Check(
                name=name,
                status="failed",
                detail=f"Expected `aws:kms` with `{wanted}`, found `{kind or 'nothing'}`",
                hint="This service does not encrypt with KMS: take `kms-key` out",
            )
        if kind is None:
            return Check(name=name, status="skipped", detail="This service does not tell")
        return Check(name=name, status="ok", detail=f"`{kind}`{f' with `{used}`' if used else ''}")

    def lifecycle(self) -> Check:
        """Look whether short-lived objects go by themselves."""
        root = self._connection.root

        def look(found: dict[str, Any]) -> str | None:
            rules = found.get("Rules", [])
            stay = [f for f in SHORT_LIVED if find_expiry(rules, f"{root}{f}/key") is None]
            names = ", ".join(f"`{folder}/`" for folder in stay)
            return f"Nothing removes what is old below {names}" if stay else None

        words = "Layers, locks and reports go by themselves"
        return self._look("lifecycle", "get_bucket_lifecycle_configuration", words, look)

    def public_access(self) -> Check:
        """Look whether anything could make objects public."""

        def look(found: dict[str, Any]) -> str | None:
            blocks = found.get("PublicAccessBlockConfiguration", {})
            off = [block for block in BLOCKS if not blocks.get(block)]
            return f"An ACL or a policy could make objects public: no {', '.join(off)}" * bool(off)

        return self._look("public access", "get_public_access_block", "Blocked", look)

    def tls(self) -> Check:
        """Look whether the bucket wants TLS."""
        name, connection = "TLS only", self._connection
        if not connection.is_encrypted:
            detail = f"The endpoint has no TLS: `{connection.endpoint}`"
            return Check(name=name, status="skipped", detail=detail)

        def look(found: dict[str, Any]) -> str | None:
            document = json.loads(found.get("Policy", "{}"))
            if is_tls_only(document, connection.bucket, partition(connection.region)):
                return None
            return "Requests without TLS are taken"

        return self._look(name, "get_bucket_policy", "Requests without TLS are denied", look)

    def _look(
        self, name: str, method: str, words: str, look: Callable[[dict[str, Any]], str | None]
    ) -> Check:
        """Read a setting of the bucket; that one may not look at it stops no launch."""
        connection = self._connection
        found: dict[str, Any] = {}
        try:
            with connection.explained("look at"):
                found = getattr(connection.client, method)(Bucket=connection.bucket)
        except StoreError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError):
                return fail(name, error)
            if code(cause) in UNSUPPORTED:
                return Check(name=name, status="skipped", detail="This service does not know it")
            if code(cause) in REFUSED:
                wants = needed(cause.operation_name, connection.place)
                return Check(name=name, status="skipped", detail=f"Cannot look: it needs {wants}")
            if code(cause) not in ABSENT:
                return fail(name, error)
        if fault := look(found):
            hint = f"Set it up with `envboot store init {connection.url}`"
            return Check(name=name, status="warning", detail=fault, hint=hint)
        return Check(name=name, status="ok", detail=words)
