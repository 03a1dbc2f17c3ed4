"""Every refusal of AWS names what was refused and what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from envboot_provisioners.aws import errors
from envboot_provisioners.aws.quotas import find_quota

USER = "arn:aws:iam::123456789012:user/ana"


def make(code: str, message: str = "no", *, status: int = 400) -> ClientError:
    document: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(document, "RunInstances")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AuthFailure", "this machine's clock"),
        ("RequestExpired", "clock"),
        ("OptInRequired", "Accept the terms"),
        ("InvalidAMIID.NotFound", "Images belong to one region"),
        ("InvalidAMIID.Malformed", "Images belong to one region"),
        ("InvalidSubnetID.NotFound", "describe-subnets"),
        ("InvalidKeyPair.NotFound", "describe-key-pairs"),
        ("InvalidGroup.NotFound", "describe-security-groups"),
        ("Unsupported", "--instance-type"),
        ("PendingVerification", "in some minutes"),
        ("Blocked", "AWS support"),
        ("VcpuLimitExceeded", "servicequotas"),
        ("MaxSpotInstanceCountExceeded", "servicequotas"),
        ("InsufficientInstanceCapacity", "more zones"),
        ("InsufficientFreeAddressesInSubnet", "--subnet"),
        ("SpotMaxPriceTooLow", "--max-price"),
        ("ExpiredToken", "aws sso login"),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "create-service-linked-role"),
    ],
)
def test_each_code_has_a_way_out(code: str, words: str) -> None:
    error = errors.explain(make(code, "What AWS says"), "Failed")
    assert error.causes == (f"{code}: What AWS says",)
    assert words in str(error.hint)


def test_a_refusal_names_the_permission_that_is_missing() -> None:
    message = f"User: {USER} is not authorized to perform: iam:PassRole on resource: x"
    error = errors.explain(make("UnauthorizedOperation", message), "Failed")
    assert "Allow this identity `iam:PassRole`" in str(error.hint)
    bare = errors.explain(make("UnauthorizedOperation", "You may not"), "Failed")
    assert "Allow this identity `ec2:RunInstances`" in str(bare.hint)
    denied = errors.explain(make("AccessDenied", f"{message} with an explicit deny in x"), "Failed")
    assert "A policy denies `iam:PassRole`" in str(denied.hint)


def test_what_ec2_encoded_of_a_refusal_is_told_where_that_is_allowed() -> None:
    message = "You may not. Encoded authorization failure message: AbC-123_x"
    told = {
        "allowed": False,
        "explicitDeny": True,
        "context": {
            "action": "iam:PassRole",
            "resource": "arn:aws:iam::123456789012:role/machines",
            "principal": {"arn": USER},
        },
    }
    asked = []

    def decode(text: str) -> str:
        asked.append(text)
        return json.dumps(told)

    error = errors.explain(make("UnauthorizedOperation", message), "Failed", decode=decode)
    assert asked == ["AbC-123_x"]
    assert error.causes == (
        "UnauthorizedOperation: You may not.",
        f"`{USER}` may not `iam:PassRole` on `arn:aws:iam::123456789012:role/machines`",
    )
    assert "A policy denies `iam:PassRole`" in str(error.hint)


def test_what_may_not_be_decoded_is_left_out() -> None:
    message = "You may not. Encoded authorization failure message: AbC-123_x"

    def decode(text: str) -> str:
        raise make("AccessDenied")

    error = errors.explain(make("UnauthorizedOperation", message), "Failed", decode=decode)
    assert error.causes == ("UnauthorizedOperation: You may not.",)
    assert "`ec2:RunInstances`" in str(error.hint)


@pytest.mark.parametrize(
    ("error", "lost", "busy"),
    [
        (make("InternalError", status=500), True, True),
        (make("Unavailable", status=503), True, True),
        (make("RequestLimitExceeded", status=503), True, True),
        (make("RequestLimitExceeded"), False, True),
        (make("InsufficientInstanceCapacity", status=500), False, False),
        (make("InvalidParameterValue"), False, False),
        (ReadTimeoutError(endpoint_url="http://x"), True, True),
        (EndpointConnectionError(endpoint_url="http://x"), False, True),
        (NoCredentialsError(), False, False),
    ],
)
def test_what_may_have_been_done_and_what_is_asked_again(
    error: Exception, lost: bool, busy: bool
) -> None:
    assert errors.is_lost(error) is lost
    assert errors.is_busy(error) is busy


def test_a_profile_that_ec2_does_not_know_yet_is_told_from_other_values() -> None:
    for message in (
        "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile",
        "Invalid IAM Instance Profile ARN",
    ):
        assert errors.has_unknown_profile(make("InvalidParameterValue", message))
    assert not errors.has_unknown_profile(make("InvalidParameterValue", "Bad KmsKeyId"))


def test_signed_urls_are_shown_without_their_query() -> None:
    error = make("OptInRequired", "Accept https://aws.amazon.com/x?token=secret first")
    assert "secret" not in errors.tell(error)


@pytest.mark.parametrize(
    ("kind", "market", "name", "code"),
    [
        (
            "m6i.large",
            "on-demand",
            "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
            "L-1216C47A",
        ),
        (
            "i4i.large",
            "on-demand",
            "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
            "L-1216C47A",
        ),
        ("inf2.xlarge", "on-demand", "Running On-Demand Inf instances", "L-1945791B"),
        ("g5g.xlarge", "spot", "All G and VT Spot Instance Requests", "L-3819A6DF"),
        ("p5.48xlarge", "on-demand", "Running On-Demand P instances", "L-417A185B"),
        ("u-6tb1.metal", "on-demand", "Running On-Demand High Memory instances", "L-43DA4232"),
        ("hpc7g.4xlarge", "spot", "All HPC Spot Instance Requests", None),
    ],
)
def test_a_type_counts_against_its_familys_quota(
    kind: str, market: str, name: str, code: str | None
) -> None:
    quota = find_quota(kind, market)
    assert (quota.name, quota.code) == (name, code)
