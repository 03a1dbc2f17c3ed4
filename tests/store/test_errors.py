"""What a refusal of S3 is explained as. Messages are Amazon's, with other names in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from envboot.store.s3.errors import ACTIONS, CODES, S3Place, explain, needed

if TYPE_CHECKING:
    from envboot.errors import StoreError

PLACE = S3Place(bucket="team-envs", root="one/", region="eu-west-1")
KEY = "arn:aws:kms:eu-west-1:111122223333:key/0a1b"
USER = "User: arn:aws:iam::111122223333:user/me is not authorized to perform: "


def refuse(
    code: str,
    message: str = "Access Denied",
    operation: str = "PutObject",
    place: S3Place = PLACE,
    headers: dict[str, str] | None = None,
) -> StoreError:
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 403, "HTTPHeaders": headers or {}},
    }
    return explain(ClientError(answer, operation), "Failed to write", place)


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ("PutObject", "`s3:PutObject` on `arn:aws:s3:::team-envs/one/*`"),
        ("DeleteObject", "`s3:DeleteObject` on `arn:aws:s3:::team-envs/one/*`"),
        ("ListObjectsV2", "`s3:ListBucket` on `arn:aws:s3:::team-envs`"),
        ("HeadBucket", "`s3:ListBucket` on `arn:aws:s3:::team-envs`"),
        ("CopyObject", "`s3:GetObject` and `s3:PutObject` on `arn:aws:s3:::team-envs/one/*`"),
        ("GetBucketPolicy", "`s3:GetBucketPolicy` on `arn:aws:s3:::team-envs`"),
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "403"])
def test_a_denial_names_action_and_resource(code: str, operation: str, wanted: str) -> None:
    assert refuse(code, operation=operation).hint == f"Allow this identity {wanted}"


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_resources_of_other_partitions_are_named_as_there(region: str) -> None:
    place = S3Place(bucket="b", region=region)
    kind = "aws-cn" if region.startswith("cn") else "aws-us-gov"
    assert needed("HeadBucket", place) == f"`s3:ListBucket` on `arn:{kind}:s3:::b`"


@pytest.mark.parametrize("operation", ["GetObject", "HeadObject"])
def test_a_denied_read_may_be_a_missing_object(operation: str) -> None:
    hint = str(refuse("AccessDenied", operation=operation).hint)
    assert "`s3:GetObject` on `arn:aws:s3:::team-envs/one/*`. A missing object" in hint
    assert "unless it may `s3:ListBucket` on `arn:aws:s3:::team-envs`" in hint


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("with an explicit deny in a resource-based policy", "A `Deny` of the bucket's policy"),
        ("with an explicit deny in an identity-based policy", "A `Deny` in this identity's"),
        ("with an explicit deny in a service control policy", "service control policy of the"),
        ("with an explicit deny in a resource control policy", "resource control policy of the"),
        (
            "because no permissions boundary allows the s3:PutObject action",
            "permissions boundary leaves it out. Allow this identity `s3:PutObject`",
        ),
        ("because no session policy allows the s3:PutObject action", "this session was opened"),
        (
            "because no VPC endpoint policy allows the s3:PutObject action",
            "The VPC endpoint's policy leaves it out: `s3:PutObject` on",
        ),
        (
            "because no identity-based policy allows the s3:PutObject action",
            "Allow this identity `s3:PutObject`",
        ),
    ],
)
def test_whose_policy_denies_is_told(why: str, words: str) -> None:
    text = f'{USER}s3:PutObject on resource: "arn:aws:s3:::team-envs/one/key" {why}'
    error = refuse("AccessDenied", text)
    assert error.causes == (f"AccessDenied: {text}",)
    assert words in str(error.hint)


def test_a_url_that_has_ended_is_told_from_a_denial() -> None:
    assert "signed URL has ended" in str(refuse("AccessDenied", "Request has expired").hint)


def test_a_denial_of_the_key_is_told_from_one_of_the_bucket() -> None:
    text = f"{USER}kms:GenerateDataKey on resource: {KEY} because no identity-based policy allows"
    hint = str(refuse("AccessDenied", text).hint)
    assert hint.startswith("Allow `kms:GenerateDataKey` and `kms:Decrypt` on the bucket's KMS key")
    place = S3Place(bucket="team-envs", root="one/", kms_key=KEY)
    assert f"`kms:Decrypt` on `{KEY}`, in this" in str(
        refuse("AccessDenied", text, place=place).hint
    )
    # Services that give no reason: either may be missing.
    both = str(refuse("AccessDenied", place=place).hint)
    assert both.startswith("Allow this identity `s3:PutObject` on `arn:aws:s3:::team-envs/one/*`, ")
    assert f"and `kms:GenerateDataKey` and `kms:Decrypt` on `{KEY}`" in both


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("KMS.DisabledException", "Enable `arn:aws:kms"),
        ("KMS.NotFoundException", "no such key in the bucket's region"),
        ("KMS.KMSInvalidStateException", "about to be deleted"),
        ("KMS.AccessDeniedException", "Allow `kms:GenerateDataKey`"),
    ],
)
def test_a_key_that_cannot_be_used_is_explained(code: str, words: str) -> None:
    hint = refuse(code, "no", place=S3Place(bucket="b", kms_key=KEY)).hint
    assert words in str(hint)
    assert "{" not in str(hint)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_known_code_has_a_way_out(code: str) -> None:
    error = refuse(code, "https://bucket/key?X-Amz-Signature=abc says no")
    assert error.hint
    assert "{" not in error.hint
    assert "Signature=" not in error.causes[0]


def test_the_right_region_is_named_where_it_is_told() -> None:
    answer = {"x-amz-bucket-region": "eu-central-1"}
    assert refuse("301", headers=answer).hint == "Set `AWS_REGION` to `eu-central-1`"


def test_what_nobody_knows_has_no_hint() -> None:
    error = refuse("Teapot", "short and stout")
    assert (error.causes, error.hint) == (("Teapot: short and stout",), None)


def test_requests_that_are_made_have_an_action() -> None:
    for operation in ACTIONS:
        assert needed(operation, PLACE).startswith("`s3:")
