"""What `envboot doctor aws` finds, by trying and without starting anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from envboot_provisioners.aws import AwsProvisioner
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot.doctor.check import Check
    from tests.ec2 import Ec2

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

STANDARD = "L-1216C47A"


def run(aws: AwsProvisioner, **options: Any) -> dict[str, Check]:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return {check.name: check for check in aws.doctor(named)}


def test_everything_is_in_order_and_nothing_is_started(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.quotas[STANDARD] = 64.0
    ec2.make_profile("machines")
    checks = run(aws, instance_profile="machines", image="debian")
    assert {check.status for check in checks.values()} == {"ok"}, checks
    assert list(checks) == [
        *("aws region", "aws identity", "aws look-ups", "aws options", "aws start"),
        *("aws terminate", "aws console", "aws quota"),
    ]
    assert "arn:aws:" in checks["aws identity"].detail
    assert "with the role of `machines`" in checks["aws start"].detail
    assert checks["aws quota"].detail.endswith("is 64 vCPUs, for 32 instances")
    assert not ec2.tokens
    (asked,) = ec2.actions("RunInstances")
    assert asked["DryRun"] == "true"
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["TagSpecification.1.Tag.1.Key"] == "Name"


def test_every_question_that_may_not_be_asked_is_named(ec2: Ec2, aws: AwsProvisioner) -> None:
    for action in ("DescribeSubnets", "GetParameter", "DescribeImages"):
        code = "AccessDeniedException" if action == "GetParameter" else "UnauthorizedOperation"
        ec2.strike(action, code, status=400, times=99)
    checks = run(aws)
    found = checks["aws look-ups"]
    assert found.status == "failed"
    assert found.detail == (
        "May not `ec2:DescribeImages`, `ec2:DescribeSubnets`, `ssm:GetParameter`"
    )
    assert checks["aws options"].status == "failed"
    assert "aws start" not in checks


def test_a_role_that_may_not_be_passed_is_told(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.make_profile("machines")
    message = "User: x is not authorized to perform: iam:PassRole on resource: y"
    ec2.strike("RunInstances", "UnauthorizedOperation", status=403, message=message)
    found = run(aws, instance_profile="machines")["aws start"]
    assert found.status == "failed"
    assert "`iam:PassRole`" in str(found.hint)


def test_ending_that_is_denied_is_a_warning(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.strike("TerminateInstances", "UnauthorizedOperation", status=403)
    found = run(aws)["aws terminate"]
    assert found.status == "warning"
    assert "`ec2:TerminateInstances`" in str(found.hint)


def test_a_quota_that_is_too_small_fails_and_one_that_is_not_told_is_skipped(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    assert run(aws)["aws quota"].status == "skipped"
    ec2.quotas[STANDARD] = 1.0
    assert run(aws)["aws quota"].status == "failed"
    ec2.quotas[STANDARD] = 4.0
    statuses = [
        {check.name: check for check in aws.doctor({}, count=count)}["aws quota"].status
        for count in (2, 3)
    ]
    assert statuses == ["ok", "failed"]


def test_wrong_options_and_a_missing_region_are_said(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(aws, key="nobody")["aws options"]
    assert (found.status, "`nobody` was not found" in found.detail) == ("failed", True)
    ec2.strike("GetCallerIdentity", "InvalidClientTokenId", status=403)
    assert run(aws)["aws identity"].status == "failed"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert run(AwsProvisioner(make_session()))["aws region"].status == "failed"
