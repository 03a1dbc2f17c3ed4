"""The policy files of `docs/aws`, and what they allow: IAM's evaluation, as far as they use it.

Source: IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition
operators". All conditions of a statement must hold; of the values of one key, any.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(__file__).parents[2] / "docs" / "aws"
NAMES = ("client", "guest", "builder", "store-init", "launch-template")
VALUES = {
    "BUCKET": "team-envs",
    "PREFIX": "team/one",
    "ACCOUNT": "123456789012",
    "REGION": "us-east-1",
    "ROLE": "envboot-machine",
    "KEY": "0a1b2c3d-0000-4000-8000-000000000000",
}
"""What a user puts in place of each word in capitals; moto has one account only."""

_VARIABLE = re.compile(r"\$\{([\w:]+)\}")

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """One thing that a request wants to be allowed: an action on a resource, in a context."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)


def read_text(name: str) -> str:
    """Return a policy as it is in the file."""
    return (FOLDER / f"{name}.json").read_text("utf-8")


def read_policy(name: str, values: Mapping[str, str] = VALUES) -> Document:
    """Return a policy with every word in capitals filled in, as `sed` does it."""
    text = read_text(name)
    for word, value in values.items():
        text = re.sub(rf"\b{word}\b", value, text)
    document: Document = json.loads(text)
    return document


def merge(*documents: Document) -> Document:
    """Return what an identity may do that several policies are attached to."""
    return {
        "Version": "2012-10-17",
        "Statement": [each for document in documents for each in document["Statement"]],
    }


def many(value: Any) -> list[Any]:
    """Return a member that may be one value or several."""
    return value if isinstance(value, list) else [value]


def list_grants(document: Document) -> Iterator[tuple[str, str]]:
    """Yield each statement's Sid with each of its actions."""
    for statement in document["Statement"]:
        for action in many(statement["Action"]):
            yield statement["Sid"], action


def find_actions(document: Document) -> set[str]:
    """Return every action that a policy allows."""
    return {action for _, action in list_grants(document)}


def without(document: Document, sid: str, action: str) -> Document:
    """Return a policy that lacks one action of one statement."""
    kept = []
    for statement in document["Statement"]:
        left = [each for each in many(statement["Action"]) if each != action]
        if statement["Sid"] != sid or left:
            kept.append({**statement, "Action": left} if statement["Sid"] == sid else statement)
    return {**document, "Statement": kept}


def widen(document: Document) -> Document:
    """Return a policy as moto can enforce it: resources of S3 only, no conditions or variables."""
    statements = []
    for statement in document["Statement"]:
        kept = {name: value for name, value in statement.items() if name != "Condition"}
        kept["Resource"] = [_VARIABLE.sub("*", each) for each in many(statement["Resource"])]
        if not all(action.startswith("s3:") for action in many(statement["Action"])):
            kept["Resource"] = "*"
        statements.append(kept)
    return {**document, "Statement": statements}


def find_allowing(document: Document, need: Need) -> Document | None:
    """Return the statement that allows something, None where none does. There are no denials."""
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        if (
            need.action in many(statement["Action"])
            and any(_covers(each, need) for each in many(statement["Resource"]))
            and _holds(statement.get("Condition", {}), need.context)
        ):
            found: Document = statement
            return found
    return None


def _covers(resource: str, need: Need) -> bool:
    """Tell whether a resource is meant, with variables filled in; what is unknown fits nothing.

    Wildcards in the value of a variable are ordinary characters (IAM User Guide, "IAM policy
    elements: Variables and tags").
    """
    if not need.context.keys() >= set(_VARIABLE.findall(resource)):
        return False
    filled = _VARIABLE.sub(lambda match: _literal(need.context[match[1]]), resource)
    return fnmatchcase(need.resource, filled)


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _holds(condition: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    for operator, keys in condition.items():
        for key, wanted in keys.items():
            value = context.get(key)
            if operator == "Null":
                right = many(wanted) == ["true" if value is None else "false"]
            elif operator == "StringEquals":
                right = value in many(wanted)
            elif operator == "StringLike":
                right = value is not None and any(fnmatchcase(value, each) for each in many(wanted))
            else:
                raise AssertionError(f"`{operator}` is not evaluated here")
            if not right:
                return False
    return True
