"""What went wrong with an S3 request, and what its user can do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from botocore import exceptions as botocore
from botocore.exceptions import ClientError

from envboot.errors import StoreError
from envboot.redaction import redact

UNSUPPORTED = frozenset(
    ("405", "501", "MethodNotAllowed", "NotImplemented", "NotSupported", "XNotImplemented")
)
"""Codes of services that speak S3 and do not know a request."""

REFUSED = frozenset(("403", "AccessDenied", "AllAccessDisabled"))

ACTIONS = {
    "HeadBucket": ("s3:ListBucket",),
    "ListObjectsV2": ("s3:ListBucket",),
    "HeadObject": ("s3:GetObject",),
    "GetObject": ("s3:GetObject",),
    "PutObject": ("s3:PutObject",),
    "CopyObject": ("s3:GetObject", "s3:PutObject"),
    "DeleteObject": ("s3:DeleteObject",),
    "CreateBucket": ("s3:CreateBucket",),
    "GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "GetBucketOwnershipControls": ("s3:GetBucketOwnershipControls",),
    "PutBucketOwnershipControls": ("s3:PutBucketOwnershipControls",),
    "GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "DeleteBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "GetBucketPolicy": ("s3:GetBucketPolicy",),
    "PutBucketPolicy": ("s3:PutBucketPolicy",),
    "GetBucketLifecycleConfiguration": ("s3:GetLifecycleConfiguration",),
    "PutBucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
}
"""The IAM actions that a request needs
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html).
"""

_CREDENTIALS = "Sign in (`aws sso login`, `aws configure`), or set `AWS_PROFILE`"
_ENDPOINT = "Check the network, `AWS_ENDPOINT_URL`, `AWS_REGION` and `tool.envboot.s3`"
_REGION = "Set `AWS_REGION` to the bucket's own region"
_BUSY = "Try again in a minute"
_KMS = (
    "Allow `kms:GenerateDataKey` and `kms:Decrypt` on {key}, in this identity's policy and in the "
    "key's own"
)

_KINDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (
            botocore.NoCredentialsError,
            botocore.PartialCredentialsError,
            botocore.CredentialRetrievalError,
            botocore.SSOError,
            botocore.TokenRetrievalError,
            botocore.ProfileNotFound,
            botocore.NoAuthTokenError,
            # botocore's word for credentials that cannot be renewed any more.
            RuntimeError,
        ),
        _CREDENTIALS,
    ),
    (
        (
            botocore.HTTPClientError,
            botocore.ConnectionError,
            botocore.IncompleteReadError,
            botocore.InvalidEndpointConfigurationError,
            # botocore's word for an endpoint that is no URL.
            ValueError,
        ),
        _ENDPOINT,
    ),
)

CODES = {
    "ExpiredToken": f"The session has ended. {_CREDENTIALS}",
    "TokenRefreshRequired": f"The session has ended. {_CREDENTIALS}",
    "InvalidToken": f"The session token is none of this service. {_CREDENTIALS}",
    "InvalidAccessKeyId": (
        "This service has no such access key: it was removed, its session has ended, or it "
        f"belongs to another endpoint. {_CREDENTIALS}"
    ),
    "SignatureDoesNotMatch": "Check the secret key, and this machine's clock",
    "RequestTimeTooSkewed": (
        "Set this machine's clock, as with `timedatectl set-ntp true`: S3 takes a quarter of an "
        "hour of difference"
    ),
    "301": _REGION,
    "400": _REGION + ", and check that the credentials have not expired",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "RequestTimeout": _BUSY,
    "BucketAlreadyExists": "Another account has a bucket of this name: choose another",
    "InvalidBucketName": "Use 3 to 63 lower-case letters, digits and hyphens",
    "InvalidBucketAclWithObjectOwnership": (
        "The bucket's ACL names others, which this setting ends: take them out of the ACL first"
    ),
    "KMS.DisabledException": "Enable {key}, or name another",
    "KMS.NotFoundException": "There is no such key in the bucket's region: check {key}",
    "KMS.KMSInvalidStateException": "{key} is about to be deleted, or not ready: name another",
}
"""What to do, by S3's code; `{key}` is the KMS key."""

_DENIALS = (
    (
        "explicit deny in a resource-based policy",
        (
            "A `Deny` of the bucket's policy applies: it may ask for TLS, a network or an "
            "encryption. `aws s3api get-bucket-policy --bucket {bucket}` shows it"
        ),
    ),
    (
        "service control policy",
        "A service control policy of the organisation denies it, whatever this identity may do",
    ),
    (
        "resource control policy",
        "A resource control policy of the organisation denies it, whatever this identity may do",
    ),
    ("permissions boundary", "This identity's permissions boundary leaves it out. {allow}"),
    ("session policy", "The policy that this session was opened with leaves it out"),
    ("vpc endpoint policy", "The VPC endpoint's policy leaves it out: {needed}"),
    ("explicit deny in an identity-based policy", "A `Deny` in this identity's policies applies"),
    ("has expired", "The signed URL has ended: sign it again"),
)
"""What S3 says of a 403
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Place:
    """The bucket that errors are about; `root` is its prefix, empty or with a final slash."""

    bucket: str
    root: str = ""
    region: str | None = None
    kms_key: str | None = None

    def arn(self, action: str) -> str:
        """Return the resource that an action is allowed on."""
        names = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        below = f"/{self.root}*" if action in names else ""
        return f"arn:{partition(self.region)}:s3:::{self.bucket}{below}"


def partition(region: str | None) -> str:
    """Return what ARNs of a region begin with."""
    kinds = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
    return next((kind for start, kind in kinds.items() if (region or "").startswith(start)), "aws")


def explain(error: Exception, message: str, place: S3Place) -> StoreError:
    """Return the error to show for one from botocore, or from a local file."""
    if isinstance(error, ClientError):
        cause, hint = _from_service(error, place)
    else:
        cause = redact(str(error))
        hint = next((hint for kinds, hint in _KINDS if isinstance(error, kinds)), None)
    return StoreError(message, causes=(cause,), hint=hint)


def code(error: ClientError) -> str:
    """Return S3's code; of an answer without a body, its status."""
    return error.response.get("Error", {}).get("Code", "")


def needed(operation: str, place: S3Place) -> str:
    """Return what a request needs, as in `` `s3:GetObject` on `arn:…` ``; empty if unknown."""
    actions = ACTIONS.get(operation, ())
    names = " and ".join(f"`{action}`" for action in actions)
    return f"{names} on `{place.arn(actions[0])}`" if actions else ""


def _from_service(error: ClientError, place: S3Place) -> tuple[str, str | None]:
    told = error.response.get("Error", {})
    name = told.get("Code", "Unknown")
    # `find` and `open` only ask about a bucket by HEAD, whose 404 has no better code.
    if name in ("NoSuchBucket", "404"):
        return (
            f"Bucket `{place.bucket}` was not found",
            (
                "Create it with `envboot store init "
                f"{f's3://{place.bucket}/{place.root}'.rstrip('/')}`, or check its name and "
                "`AWS_ENDPOINT_URL`"
            ),
        )
    words = told.get("Message", "") or "no reason given"
    cause = f"{name}: {redact(words)}"
    if name in REFUSED:
        return cause, _explain_denial(error.operation_name, words, place)
    hint = CODES.get(name)
    if name.startswith("KMS."):
        return cause, _with_key(hint or _KMS, place)
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or told.get("Region")
    if hint and hint.startswith(_REGION) and region:
        hint = f"Set `AWS_REGION` to `{region}`"
    return cause, hint


def _explain_denial(operation: str, words: str, place: S3Place) -> str:
    low = words.lower()
    if "kms:" in low or "kms key" in low:
        return _with_key(_KMS, place)
    what = needed(operation, place)
    allow = f"Allow this identity {what}" if what else "Ask whoever runs the account"
    for text, hint in _DENIALS:
        if text in low:
            return hint.format(bucket=place.bucket, needed=what, allow=allow)
    if operation in ("GetObject", "HeadObject"):
        lists = needed("ListObjectsV2", place)
        return f"{allow}. A missing object is answered so too, unless it may {lists}"
    if operation in ("PutObject", "CopyObject") and place.kms_key:
        return f"{allow}, and {_with_key(_KMS, place).removeprefix('Allow ')}"
    return allow


def _with_key(hint: str, place: S3Place) -> str:
    return hint.format(key=f"`{place.kms_key}`" if place.kms_key else "the bucket's KMS key")
