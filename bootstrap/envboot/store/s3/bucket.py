"""A bucket as envboot wants it: private, encrypted, and without what nobody needs any more."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from envboot.store.lifetimes import BASE_DAYS, LAYER_DAYS, list_lives, name_lives
from envboot.store.s3 import lifecycle, policy
from envboot.store.s3.errors import UNSUPPORTED, code, explain, partition
from envboot.store.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envboot.store.s3.connection import S3Connection

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
OWNERSHIP: Literal["BucketOwnerEnforced"] = "BucketOwnerEnforced"
ABSENT = frozenset(
    (
        "NoSuchBucketPolicy",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "OwnershipControlsNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    )
)
"""Codes that say that a setting was never made."""
FOREIGN_REGION = frozenset(
    ("IllegalLocationConstraintException", "InvalidLocationConstraint", "InvalidRegion")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class S3BucketSpec:
    """What a bucket should be.

    `tls_only` None is: where the endpoint has TLS. `base_days` None keeps bases for ever.
    """

    region: str | None = None
    kms_key: str | None = None
    tls_only: bool | None = None
    base_days: int | None = BASE_DAYS
    layer_days: int = LAYER_DAYS


def ensure_bucket(
    connection: S3Connection, wanted: S3BucketSpec, *, dry_run: bool
) -> Iterator[Step]:
    """Make the bucket, if there is none, and its settings as wanted; yield every step.

    What is right stays untouched, and so do the rules and statements of others. A step that fails
    does not stop the rest.

    Raises:
        StoreError: the service cannot be reached, or there are no credentials.
    """
    with connection.explained("set up"):
        steps = _Steps(connection, wanted, dry_run=dry_run)
        yield (first := steps.make())
        if first.outcome == "failed":
            return
        yield steps.block_public_access()
        yield steps.own_objects()
        yield steps.encrypt()
        yield steps.expire()
        # Last: it may shut out whoever set it up without TLS.
        yield steps.demand_tls()


class _Steps:
    def __init__(self, connection: S3Connection, wanted: S3BucketSpec, *, dry_run: bool) -> None:
        self._connection = connection
        self._wanted = wanted
        self._dry_run = dry_run
        self._is_there = True

    def _ensure(
        self, name: str, want: str, find: Callable[[], str | None], write: Callable[[], str | None]
    ) -> Step:
        """Compare and write; `find` returns what is there instead, None where all is right.

        `write` returns why the service does not support it after all.
        """
        try:
            found = find() if self._is_there else "nothing"
            if found is None:
                return Step(name=name, outcome="right", detail=want)
            detail = f"{want}; was: {found}"
            if self._dry_run:
                return Step(name=name, outcome="would change", detail=detail)
            if reason := write():
                return Step(name=name, outcome="not supported", detail=reason)
        except ClientError as error:
            return self._fail(name, error)
        return Step(name=name, outcome="changed", detail=detail)

    def _fail(self, name: str, error: ClientError) -> Step:
        if code(error) in UNSUPPORTED:
            return Step(name=name, outcome="not supported", detail="This service does not know it")
        told = explain(error, name, self._connection.place)
        return Step(name=name, outcome="failed", detail=told.causes[0], hint=told.hint)

    def _read(self, method: str) -> dict[str, Any]:
        """Return a setting of the bucket, empty where it was never made."""
        try:
            found: dict[str, Any] = getattr(self._connection.client, method)(
                Bucket=self._connection.bucket
            )
        except ClientError as error:
            if code(error) in ABSENT:
                return {}
            raise
        return found

    def make(self) -> Step:
        """Make sure that the bucket is there, in its region."""
        connection, wanted = self._connection, self._wanted
        try:
            connection.locate()
        except ClientError as error:
            if code(error) not in ("404", "NoSuchBucket"):
                return self._fail("bucket", error)
            self._is_there = False
        if self._is_there:
            region = connection.region
            if wanted.region and wanted.region != region and connection.is_aws:
                return Step(
                    name="bucket",
                    outcome="failed",
                    detail=f"Expected `{connection.bucket}` in `{wanted.region}`, found it in "
                    f"`{region}`",
                    hint="A bucket cannot move: leave `--region` out, or choose another name",
                )
            return Step(name="bucket", outcome="right", detail=f"`{connection.bucket}`")
        if wanted.region:
            connection.use_region(wanted.region)
        where = f" in `{connection.region}`" if connection.is_aws or wanted.region else ""
        step = self._ensure("bucket", f"`{connection.bucket}`{where}", lambda: None, self._create)
        self._is_there = step.outcome == "changed"
        return step

    def _create(self) -> None:
        connection = self._connection
        region = connection.region
        named: Any = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            # The one region that must not be named.
            extra = {} if region == "us-east-1" else named
            connection.client.create_bucket(Bucket=connection.bucket, **extra)
        except ClientError as error:
            # A service that speaks S3 has regions of its own, and boto3's may be of Amazon.
            if code(error) not in FOREIGN_REGION or connection.is_aws or self._wanted.region:
                raise
            connection.client.create_bucket(Bucket=connection.bucket)
        connection.client.get_waiter("bucket_exists").wait(
            Bucket=connection.bucket, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )

    def block_public_access(self) -> Step:
        """Block what would make objects public, whatever ACLs and policies say."""
        connection = self._connection

        def find() -> str | None:
            found = self._read("get_public_access_block").get("PublicAccessBlockConfiguration", {})
            off = [name for name in BLOCKS if not found.get(name)]
            return f"without {', '.join(off)}" if off else None

        def write() -> None:
            connection.client.put_public_access_block(
                Bucket=connection.bucket,
                PublicAccessBlockConfiguration=dict.fromkeys(BLOCKS, True),  # type: ignore[arg-type]
            )

        return self._ensure("public access", "blocked", find, write)

    def own_objects(self) -> Step:
        """Turn ACLs off: the bucket's owner owns every object."""
        connection = self._connection

        def find() -> str | None:
            rules = self._read("get_bucket_ownership_controls").get("OwnershipControls", {})
            names = [rule["ObjectOwnership"] for rule in rules.get("Rules", ())]
            return None if names == [OWNERSHIP] else ", ".join(names) or "ACLs"

        def write() -> None:
            connection.client.put_bucket_ownership_controls(
                Bucket=connection.bucket,
                OwnershipControls={"Rules": [{"ObjectOwnership": OWNERSHIP}]},
            )

        return self._ensure("ownership", "the bucket's owner owns all, no ACLs", find, write)

    def encrypt(self) -> Step:
        """Encrypt by default; without a key of the user's what is there already stays."""
        connection, key = self._connection, self._wanted.kms_key
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key else {}
        rule: Any = {
            "ApplyServerSideEncryptionByDefault": default or {"SSEAlgorithm": "AES256"},
            **({"BucketKeyEnabled": True} if key else {}),
        }
        before: dict[str, Any] = {}

        def find() -> str | None:
            before.update(self._read("get_bucket_encryption"))
            rules = before.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
            found = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if rules else {}
            if not found:
                return "none"
            if not key:
                return None
            # A key may be named by its id and stand there by its ARN.
            same = str(found.get("KMSMasterKeyID")).endswith(key)
            right = same and found["SSEAlgorithm"] == "aws:kms" and rules[0].get("BucketKeyEnabled")
            return None if right else _name_encryption(found)

        def write() -> str | None:
            connection.client.put_bucket_encryption(
                Bucket=connection.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
            )
            if connection.is_aws or self._takes_uploads():
                return None
            if kept := before.get("ServerSideEncryptionConfiguration"):
                connection.client.put_bucket_encryption(
                    Bucket=connection.bucket, ServerSideEncryptionConfiguration=kept
                )
            else:
                connection.client.delete_bucket_encryption(Bucket=connection.bucket)
            return "This service takes the setting and then fails to write: it was taken back"

        words = f"aws:kms with `{key}`" if key else "AES256, where nothing else is set"
        return self._ensure("encryption", words, find, write)

    def _takes_uploads(self) -> bool:
        client, name = self._connection.impatient(), f"reports/setup-{secrets.token_hex(8)}"
        place: Any = {"Bucket": self._connection.bucket, "Key": self._connection.root + name}
        try:
            client.put_object(**place, Body=b"envboot")
            client.delete_object(**place)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            # Whoever sets a bucket up need not be allowed to write to it.
            return status < 500
        return True

    def expire(self) -> Step:
        """Have the bucket remove what nobody needs any more, below the prefix only."""
        connection, wanted = self._connection, self._wanted
        lives = list_lives(base_days=wanted.base_days, layer_days=wanted.layer_days)
        rules = lifecycle.make_rules(connection.root, lives)
        before: dict[str, Any] = {}

        def find() -> str | None:
            before.update(self._read("get_bucket_lifecycle_configuration"))
            names = lifecycle.find_differences(before.get("Rules", []), rules, connection.root)
            if names and not lifecycle.has_ours(before.get("Rules", []), connection.root):
                return "no rules of ours"
            return f"other in {', '.join(f'`{name}`' for name in names)}" if names else None

        def write() -> None:
            merged: Any = lifecycle.merge_rules(before.get("Rules", []), rules, connection.root)
            size = before.get("TransitionDefaultMinimumObjectSize")
            # What it says of others' rules must not change with ours.
            extra: dict[str, Any] = {"TransitionDefaultMinimumObjectSize": size} if size else {}
            connection.client.put_bucket_lifecycle_configuration(
                Bucket=connection.bucket, LifecycleConfiguration={"Rules": merged}, **extra
            )

        return self._ensure("lifecycle", name_lives(lives), find, write)

    def demand_tls(self) -> Step:
        """Deny whatever comes without TLS, beside what the policy says already."""
        connection, name = self._connection, "TLS only"
        if self._wanted.tls_only is False:
            return Step(name=name, outcome="skipped", detail="`--no-tls-only`")
        if self._wanted.tls_only is None and not connection.is_encrypted:
            detail = f"The endpoint has no TLS: `{connection.endpoint}`"
            return Step(name=name, outcome="skipped", detail=detail)
        kind = partition(connection.region)
        before: dict[str, Any] = {}

        def find() -> str | None:
            before.update(json.loads(self._read("get_bucket_policy").get("Policy", "{}")))
            right = policy.is_tls_only(before, connection.bucket, kind)
            return None if right else "no such statement in the policy"

        def write() -> None:
            merged = policy.merge_statement(before, connection.bucket, kind)
            connection.client.put_bucket_policy(Bucket=connection.bucket, Policy=json.dumps(merged))

        return self._ensure(name, "requests without TLS are denied", find, write)


def _name_encryption(found: dict[str, Any]) -> str:
    key = found.get("KMSMasterKeyID")
    return f"{found['SSEAlgorithm']} with `{key}`" if key else str(found["SSEAlgorithm"])
