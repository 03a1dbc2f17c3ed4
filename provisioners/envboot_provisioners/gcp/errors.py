"""What Google Cloud refuses, in words, and what its user can do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import requests
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.protobuf.json_format import ParseError

from envboot.errors import ProvisionError
from envboot.google_auth import explain_silence, tell_unreachable
from envboot.redaction import redact

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.compute_v1 import Operation

_CREDENTIALS = (
    "Sign in (`gcloud auth application-default login`), or set `GOOGLE_APPLICATION_CREDENTIALS`"
)
_NETWORK = "Check the network, and `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE` where that is set"
_QUOTA = "Ask for more at `https://console.cloud.google.com/iam-admin/quotas`, or launch fewer"
_CAPACITY = "Try another `--machine-type`, more zones (`--zone`, `--region`), or fewer instances"
_ENABLE = "Enable it with `gcloud services enable compute.googleapis.com`"


class OperationError(Exception):
    """An operation that Compute Engine took on, and that failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


FAULTS = (
    GoogleAPICallError,
    RetryError,
    GoogleAuthError,
    requests.RequestException,
    ParseError,
    OperationError,
)
"""All that a call may raise; `ParseError` where something between us and Google answers."""

CAPACITY = {
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "RESOURCE_POOL_EXHAUSTED",
    "STOCKOUT",
    "VM_MIN_COUNT_NOT_REACHED",
}
"""What another zone may have (Compute Engine, "Troubleshooting resource availability")."""

EXHAUSTED = {"QUOTA_EXCEEDED", "quotaExceeded"}
"""What another market may have: quotas are those of a region, Spot has its own."""

BUSY = {"rateLimitExceeded", "userRateLimitExceeded", "backendError", "internalError"}
"""What the same request may get a moment later."""

_HINTS = {
    "accessNotConfigured": _ENABLE,
    "SERVICE_DISABLED": _ENABLE,
    "authError": _CREDENTIALS,
    "required": _CREDENTIALS,
    "billingNotEnabled": "Link a billing account to the project",
    "conditionNotMet": "An organization policy forbids it: `gcloud resource-manager org-policies "
    "list` lists them",
    "SERVICE_ACCOUNT_ACCESS_DENIED": "Grant this identity `roles/iam.serviceAccountUser` on the "
    "service account",
    "alreadyExists": "Name another, or delete that one",
    **dict.fromkeys(EXHAUSTED, _QUOTA),
    **dict.fromkeys(CAPACITY, _CAPACITY),
    **dict.fromkeys(BUSY, "Others of this project ask as well: try again in a minute"),
}
_PERMISSION = re.compile(r"'(compute\.[\w.]+|iam\.[\w.]+)' permission|permission '?([\w.]+\.\w+)")


def find_code(error: Exception) -> str:
    """Return the service's own word for an error; empty where no service has spoken."""
    if isinstance(error, OperationError):
        return error.code
    if not isinstance(error, GoogleAPICallError):
        return ""
    for told in error.errors:
        if isinstance(told, dict) and told.get("reason"):
            return str(told["reason"])
    return error.reason or str(error.code or "")


def find_status(error: Exception) -> int:
    """Return the HTTP status of a refusal, 0 where there is none."""
    return int(error.code or 0) if isinstance(error, GoogleAPICallError) else 0


def is_missing(error: Exception) -> bool:
    """Whether what was asked for is not there."""
    return find_status(error) == 404


def is_lost(error: Exception) -> bool:
    """Whether what was asked for may have been done, though nobody said so."""
    if isinstance(error, GoogleAPICallError):
        return find_status(error) >= 500
    unsent = (OperationError, GoogleAuthError, requests.ConnectTimeout)
    return not isinstance(error, unsent)


def is_busy(error: Exception) -> bool:
    """Whether the same request may be answered a moment later."""
    return is_lost(error) or find_code(error) in BUSY or find_status(error) == 429


def raise_failed(operation: Operation) -> None:
    """Raise what an operation that is done has failed with.

    Raises:
        OperationError: it has failed.
    """
    for told in operation.error.errors:
        raise OperationError(told.code, told.message or operation.http_error_message)
    if operation.http_error_status_code >= 400:
        code = str(operation.http_error_status_code)
        raise OperationError(code, operation.http_error_message)


def tell(error: Exception) -> str:
    """Return an error in one line, its code first; without the queries of URLs."""
    text = error.message if isinstance(error, GoogleAPICallError) else str(error)
    text = tell_unreachable(error) or text
    # The client puts the method and the whole URL in front.
    text = re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", str(text or ""))
    text = redact(text)
    code = find_code(error)
    return f"{code}: {text or 'no reason given'}" if code else text or repr(error)


def find_permission(error: Exception) -> str | None:
    """Return the permission that a refusal names, as in `compute.instances.create`."""
    found = _PERMISSION.search(str(error))
    return (found[1] or found[2]) if found else None


def find_hint(error: Exception) -> str | None:
    """Return what to do about an error."""
    code = find_code(error)
    permission = find_permission(error)
    if permission == "iam.serviceAccounts.actAs":
        return _HINTS["SERVICE_ACCOUNT_ACCESS_DENIED"]
    if permission:
        return f"Grant this identity `{permission}`; docs/gcp.md lists all that is needed"
    if code in _HINTS:
        return _HINTS[code]
    if find_status(error) == 401:
        return _CREDENTIALS
    if find_status(error) == 403:
        return "docs/gcp.md lists the permissions that are needed"
    if isinstance(error, DefaultCredentialsError | RefreshError):
        return _CREDENTIALS
    if isinstance(error, requests.RequestException | RetryError | ParseError | GoogleAuthError):
        return _NETWORK
    return None


def explain(
    error: Exception, message: str, credentials: Credentials | None = None
) -> ProvisionError:
    """Return the error to show for one of Google's clients, which asks with these credentials."""
    if silence := explain_silence(error, credentials):
        return ProvisionError(message, causes=silence[:1], hint=silence[1])
    return ProvisionError(message, causes=(tell(error),), hint=find_hint(error))
