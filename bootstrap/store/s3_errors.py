"""What went wrong with an S3 request, and what its user can do about it. Pure."""

from __future__ import annotations

import re

from botocore import exceptions as botocore
from botocore.exceptions import ClientError

from bootstrap.agent import wire
from bootstrap.errors import StoreError

_CREDENTIALS = "Sign in (`aws sso login`, `aws configure`), or set `AWS_PROFILE`"
_ENDPOINT = "Check the network, `AWS_ENDPOINT_URL` and `AWS_REGION`"
_PERMISSIONS = (
    "Allow this identity `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject` on the bucket's "
    "objects and `s3:ListBucket` on the bucket; without the last, S3 answers 403 for a missing "
    "object too"
)
_REGION = "Set `AWS_REGION` to the bucket's own region"

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

_CODES = {
    "AccessDenied": _PERMISSIONS,
    "403": _PERMISSIONS,
    "AllAccessDisabled": _PERMISSIONS,
    "ExpiredToken": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "SignatureDoesNotMatch": "Check the secret key, and this machine's clock",
    "RequestTimeTooSkewed": "Set this machine's clock",
    "301": _REGION,
    "400": _REGION + ", and check that the credentials have not expired",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "SlowDown": "Try again in a minute",
}


def explain(error: Exception, message: str, bucket: str) -> StoreError:
    """Return the error to show for one from botocore, or from a local file."""
    if isinstance(error, ClientError):
        cause, hint = _from_service(error, bucket)
    else:
        cause = _without_queries(str(error))
        hint = next((hint for kinds, hint in _KINDS if isinstance(error, kinds)), None)
    return StoreError(message, causes=(cause,), hint=hint)


def _from_service(error: ClientError, bucket: str) -> tuple[str, str | None]:
    told = error.response.get("Error", {})
    code = told.get("Code", "Unknown")
    # `find` and `open` only ask about a bucket by HEAD, whose 404 has no better code.
    if code in ("NoSuchBucket", "404"):
        return (
            f"Bucket `{bucket}` was not found",
            "Create it, or check its name and `AWS_ENDPOINT_URL`",
        )
    cause = f"{code}: {_without_queries(told.get('Message', '') or 'no reason given')}"
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or told.get("Region")
    hint = _CODES.get(code)
    if hint and hint.startswith(_REGION) and region:
        hint = f"Set `AWS_REGION` to `{region}`"
    return cause, hint


def _without_queries(text: str) -> str:
    """Cut the queries of all URLs in a text: they may be signed."""
    return re.sub(r"\w+://[^\s\"'<>]+", lambda match: wire.without_query(match[0]), text)
