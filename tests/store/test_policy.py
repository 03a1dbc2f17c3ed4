"""The statement that demands TLS, among those of others."""

from __future__ import annotations

from typing import Any

import pytest

from envboot.store.s3.policy import SID, is_tls_only, make_statement, merge_statement

OTHER = {
    "Sid": "theirs",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::bucket/*",
}
OURS = make_statement("bucket", "aws")


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def test_statements_of_others_are_kept_and_ours_is_there_once() -> None:
    merged = merge_statement({**policy(OTHER), "Id": "theirs"}, "bucket", "aws")
    assert merged == {**policy(OTHER, OURS), "Id": "theirs"}
    assert merge_statement(merged, "bucket", "aws") == merged
    assert is_tls_only(merged, "bucket", "aws")


def test_a_lone_statement_may_stand_without_a_list() -> None:
    lone: dict[str, Any] = {"Version": "2012-10-17", "Statement": OTHER}
    assert merge_statement(lone, "bucket", "aws")["Statement"] == [OTHER, OURS]


def test_a_bucket_without_a_policy_gets_one() -> None:
    assert not is_tls_only({}, "bucket", "aws")
    assert merge_statement({}, "bucket", "aws") == policy(OURS)


def test_the_same_by_another_name_is_right_as_it_is() -> None:
    same = {**OURS, "Sid": "AllowSSLRequestsOnly", "Principal": {"AWS": "*"}}
    same["Condition"] = {"Bool": {"aws:SecureTransport": [False]}}
    assert is_tls_only(policy(OTHER, same), "bucket", "aws")


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Allow"},
        {"Principal": {"AWS": "arn:aws:iam::111122223333:root"}},
        {"Action": "s3:GetObject"},
        {"Resource": "arn:aws:s3:::bucket/*"},
        {"Resource": ["arn:aws:s3:::other", "arn:aws:s3:::other/*"]},
        {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": "false", "aws:ViaAWSService": "true"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": "false"}, "StringEquals": {"a": "b"}}},
        {"Condition": {}},
    ],
)
def test_a_weaker_statement_is_not_enough_and_is_replaced_where_it_is_ours(
    change: dict[str, Any],
) -> None:
    weak = {**OURS, **change}
    assert weak["Sid"] == SID
    assert not is_tls_only(policy(weak), "bucket", "aws")
    assert merge_statement(policy(weak), "bucket", "aws") == policy(OURS)


def test_other_partitions_have_arns_of_their_own() -> None:
    assert make_statement("bucket", "aws-cn")["Resource"][0] == "arn:aws-cn:s3:::bucket"
    assert not is_tls_only(policy(OURS), "bucket", "aws-cn")
