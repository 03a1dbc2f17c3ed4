"""The bucket policy that refuses whoever does not use TLS, beside what is there. Pure."""

from __future__ import annotations

from typing import Any

SID = "EnvbootTlsOnly"


def make_statement(bucket: str, partition: str) -> dict[str, Any]:
    """Return the statement that denies everything without TLS
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html).
    """
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Sid": SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def is_tls_only(policy: dict[str, Any], bucket: str, partition: str) -> bool:
    """Tell whether a policy, ours or another's, refuses all that comes without TLS."""
    wanted = make_statement(bucket, partition)
    return any(_denies(statement, wanted) for statement in _statements(policy))


def merge_statement(policy: dict[str, Any], bucket: str, partition: str) -> dict[str, Any]:
    """Return the policy with our statement as wanted, and every other one as it was."""
    wanted = make_statement(bucket, partition)
    kept = [each for each in _statements(policy) if each.get("Sid") != SID]
    return {
        "Version": "2012-10-17",
        **policy,
        "Statement": [*kept, wanted],
    }


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found = policy.get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)


def _denies(statement: dict[str, Any], wanted: dict[str, Any]) -> bool:
    condition = statement.get("Condition", {})
    asked = condition.get("Bool", {})
    return bool(
        statement.get("Effect") == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and condition.keys() == {"Bool"}
        and asked.keys() == {"aws:SecureTransport"}
        and [str(value).lower() for value in _many(asked["aws:SecureTransport"])] == ["false"]
        and {"s3:*", "*"} & set(_many(statement.get("Action")))
        and set(wanted["Resource"]) <= set(_many(statement.get("Resource")))
    )


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
