"""Where AWS is: the region, and one client a service, made when it is first asked for."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from envboot.errors import ProvisionError
from envboot_provisioners.aws.errors import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d")


class AwsClients:
    """The services of one region, with the credentials that boto3 finds.

    boto3 reads `AWS_…` variables and its files from the process itself, which nothing can change;
    what it does not know by itself comes from `environment`.
    """

    def __init__(self, region: str | None, environment: Mapping[str, str]) -> None:
        try:
            self._session = boto3.Session()
            # The AWS CLI and all other SDKs read `AWS_REGION`; botocore knows its older name only.
            found = region or environment.get("AWS_REGION") or self._session.region_name
        except BotoCoreError as error:
            raise explain(error, "Failed to read the configuration of AWS") from error
        if not found:
            raise ProvisionError(
                "Expected a region of AWS, found none",
                hint="Name one with `--region`, `AWS_REGION`, or `region` of the profile",
            )
        if not _REGION.fullmatch(found):
            raise ProvisionError(f"Expected a region of AWS, such as `eu-west-1`, found `{found}`")
        self.region: str = found

    @cached_property
    def ec2(self) -> EC2Client:
        """EC2; what the service fails to answer is asked again."""
        return self._session.client("ec2", region_name=self.region, config=_config(6))

    @cached_property
    def starting(self) -> EC2Client:
        """EC2 for calls that start instances: each is sent once.

        EC2 says with status 500 that a zone has no capacity; botocore would ask there again.
        """
        return self._session.client("ec2", region_name=self.region, config=_config(1))

    @cached_property
    def ssm(self) -> SSMClient:
        """Systems Manager, which holds the newest images' ids."""
        return self._session.client("ssm", region_name=self.region, config=_config(4))

    @cached_property
    def iam(self) -> IAMClient:
        """IAM, for instance profiles."""
        return self._session.client("iam", region_name=self.region, config=_config(4))

    @cached_property
    def sts(self) -> STSClient:
        """STS: who asks, and what a refusal says."""
        return self._session.client("sts", region_name=self.region, config=_config(4))

    @cached_property
    def quotas(self) -> Any:
        """Service Quotas."""
        return self._session.client(
            "service-quotas",
            region_name=self.region,
            config=_config(2),
        )

    def explain(self, error: Exception, message: str) -> ProvisionError:
        """Return the error to show, what EC2 encoded of a refusal decoded where that is allowed."""
        return explain(error, message, decode=self._decode)

    def _decode(self, text: str) -> str:
        return self.sts.decode_authorization_message(EncodedMessage=text)["DecodedMessage"]


def _config(tries: int) -> Config:
    return Config(
        retries={"mode": "standard", "total_max_attempts": tries},
        connect_timeout=10,
        read_timeout=60,
    )
