"""What AWS refuses, in words, and what its user can do about it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from botocore import exceptions as botocore
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from envboot.errors import ProvisionError
from envboot.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable

_CREDENTIALS = "Sign in (`aws sso login`, `aws configure`), or set `AWS_PROFILE`"
_CLOCK = "Set this machine's clock: AWS refuses requests that are five minutes off"
_SUPPORT = "Only AWS support can lift this: `https://console.aws.amazon.com/support`"
_NETWORK = "Check the network, the region's name and `AWS_ENDPOINT_URL`"
_QUOTA = "Ask for more at `https://console.aws.amazon.com/servicequotas`, or launch fewer"
_CAPACITY = "Try another `--instance-type`, more zones (`--subnet`, `--zone`), or fewer instances"

FAULTS = (BotoCoreError, ClientError, ResponseParserError)
"""All that a call may raise; the last where something between us and AWS answers in HTML."""

CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacity",
    "InsufficientVolumeCapacity",
    "InsufficientFreeAddressesInSubnet",
    "UnfulfillableCapacity",
    "SpotMaxPriceTooLow",
    "Unsupported",
}
"""What another zone may have.

Source: EC2 API Reference, "Error codes"; `Unsupported` says that the zone lacks the type.
"""

EXHAUSTED = {"MaxSpotInstanceCountExceeded"}
"""What another market may have, and no other zone."""

BUSY = {
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "EC2ThrottledException",
    "InternalError",
    "InternalFailure",
    "ServiceUnavailable",
    "Unavailable",
}
"""What the same request may get a moment later."""

_HINTS = {
    "AuthFailure": "Check the credentials and this machine's clock, and that the account has "
    "enabled this region",
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": "Have an administrator run "
    "`aws iam create-service-linked-role --aws-service-name spot.amazonaws.com` once",
    "Blocked": _SUPPORT,
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "InsufficientFreeAddressesInSubnet": "Name more subnets with `--subnet`",
    "InvalidAMIID": "Images belong to one region: name one that is there with `--image`",
    "InvalidBlockDeviceMapping": "Leave out `--root-size`, or make it larger",
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidGroup": "`aws ec2 describe-security-groups` lists the groups",
    "InvalidGroupId": "`aws ec2 describe-security-groups` lists the groups",
    "InvalidInstanceType": "`aws ec2 describe-instance-type-offerings` lists what the region has",
    "InvalidKeyPair": "`aws ec2 describe-key-pairs` lists the region's keys; envboot needs none",
    "InvalidPlacementGroup": "`aws ec2 describe-placement-groups` lists the groups",
    "InvalidSubnetID": "`aws ec2 describe-subnets` lists the region's subnets",
    "InstanceLimitExceeded": _QUOTA,
    "MaxSpotInstanceCountExceeded": _QUOTA,
    "OptInRequired": "Accept the terms at the address that the cause names, or take another image",
    "PendingVerification": "AWS is still checking this account: try again in some minutes; "
    "it writes to the account's owner when it takes longer",
    "RequestExpired": _CLOCK,
    "RequestLimitExceeded": "Others of this account ask as well: try again in a minute",
    "SignatureDoesNotMatch": "Check the secret key, and this machine's clock",
    "SpotMaxPriceTooLow": "Raise `--max-price`, or leave it out",
    "UnrecognizedClientException": _CREDENTIALS,
    "Unsupported": "Try another `--instance-type`, or other zones",
    "VcpuLimitExceeded": _QUOTA,
    "VolumeLimitExceeded": _QUOTA,
    "VPCIdNotSpecified": "The region has no default VPC: name a subnet with `--subnet`",
    **dict.fromkeys(
        CAPACITY - {"InsufficientFreeAddressesInSubnet", "SpotMaxPriceTooLow"} - {"Unsupported"},
        _CAPACITY,
    ),
}

DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.Unauthorized"}

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
    ((botocore.HTTPClientError, botocore.ConnectionError, ResponseParserError), _NETWORK),
)
_UNSENT = (*_KINDS[0][0], botocore.ConnectionError, botocore.ParamValidationError)
_ENCODED = re.compile(r"\s*Encoded authorization failure message: (\S+)")
_ACTION = re.compile(r"perform: ([\w-]+:\w+)")


def find_code(error: Exception) -> str:
    """Return the service's own word for an error; empty where no service has spoken."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_lost(error: Exception) -> bool:
    """Whether what was asked for may have been done, though nobody said so."""
    if not isinstance(error, ClientError):
        return not isinstance(error, _UNSENT)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 and find_code(error) not in CAPACITY | EXHAUSTED


def is_busy(error: Exception) -> bool:
    """Whether the same request may be answered a moment later."""
    if isinstance(error, ClientError):
        return find_code(error) in BUSY or is_lost(error)
    lost = (botocore.HTTPClientError, botocore.ConnectionError, ResponseParserError)
    return isinstance(error, lost)


def has_unknown_profile(error: Exception) -> bool:
    """Whether EC2 does not know an instance profile; one that IAM has just made takes seconds."""
    words = str(error).lower().replace(" ", "")
    return find_code(error) == "InvalidParameterValue" and "iaminstanceprofile" in words


def explain(
    error: Exception, message: str, *, decode: Callable[[str], str] | None = None
) -> ProvisionError:
    """Return the error to show for one of botocore's.

    `decode` is asked what the encoded part of a refusal says; it may fail.
    """
    if isinstance(error, ClientError):
        causes, hint = _from_service(error, decode)
        return ProvisionError(message, causes=causes, hint=hint)
    hint = next((hint for kinds, hint in _KINDS if isinstance(error, kinds)), None)
    return ProvisionError(message, causes=(redact(str(error)),), hint=hint)


def tell(error: Exception) -> str:
    """Return an error in one line, its code first."""
    if not isinstance(error, ClientError):
        return redact(str(error))
    told = error.response.get("Error", {})
    text = _ENCODED.sub("", told.get("Message", "")).strip()
    return f"{find_code(error)}: {redact(text) or 'no reason given'}"


def find_hint(code: str) -> str | None:
    """Return what to do about an error code; `InvalidAMIID.NotFound` is an `InvalidAMIID`."""
    return _HINTS.get(code) or _HINTS.get(code.partition(".")[0])


def find_action(error: ClientError) -> str | None:
    """Return the permission that a refusal names, as in `iam:PassRole`."""
    named = _ACTION.search(str(error))
    return named[1] if named else None


def _from_service(
    error: ClientError, decode: Callable[[str], str] | None
) -> tuple[tuple[str, ...], str | None]:
    code = find_code(error)
    if code not in DENIED:
        return (tell(error),), find_hint(code)
    action = find_action(error) or f"ec2:{error.operation_name}"
    causes = [tell(error)]
    encoded = _ENCODED.search(str(error))
    denied = "explicit deny" in str(error)
    if encoded and decode:
        told = _read_decoded(encoded[1], decode)
        if told:
            action = told["action"]
            who, what = told["who"], told["resource"]
            causes.append(f"`{who}` may not `{action}` on `{what}`")
            denied = told["denied"]
    if denied:
        return tuple(causes), f"A policy denies `{action}`: have whoever set it make an exception"
    return tuple(causes), f"Allow this identity `{action}`; docs/aws.md lists all that is needed"


def _read_decoded(encoded: str, decode: Callable[[str], str]) -> dict[str, Any] | None:
    """Read what STS says of a refusal; None where it is not ours to know."""
    try:
        document = json.loads(decode(encoded))
        context = document["context"]
        return {
            "action": context["action"],
            "resource": context.get("resource", "*"),
            "who": context.get("principal", {}).get("arn", "this identity"),
            "denied": bool(document.get("explicitDeny")),
        }
    except (BotoCoreError, ClientError, ValueError, KeyError, TypeError):
        return None
