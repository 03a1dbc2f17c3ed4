"""What EC2 knows of instances: finding them, how they are, their console, and their end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from envboot_provisioners import Instance, State
from envboot_provisioners.aws.errors import FAULTS, find_code, tell
from envboot_provisioners.aws.request import TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_ec2 import EC2Client

CHUNK = 100
"""Ids of one call; a filter takes 200 values (API Reference, DescribeInstances)."""
ENDED = ("shutting-down", "terminated")
ALIVE = ("pending", "running")
_ID = re.compile(r"i-[0-9a-f]{8,17}")
_REASONS = {
    "Client.InternalError": "mostly a key of KMS for the disk that this identity may not use",
    "Client.InvalidSnapshot.NotFound": "the image's snapshot is gone",
    "Client.VolumeLimitExceeded": "the account's quota of EBS storage is used up",
    "Server.SpotInstanceTermination": "EC2 wanted the spot instance back",
    "Server.InsufficientInstanceCapacity": "the zone had no room for it",
}
"""Source: EC2 API Reference, "StateReason"."""
_ABOUT_ONE = (
    "InvalidInstanceID",
    "OperationNotPermitted",
    "UnauthorizedOperation",
    "IncorrectState",
)
"""Refusals that may be about one of several instances: it is protected, or a policy's."""


def find_tagged(client: EC2Client, launches: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what EC2 says of the instances of launches that have not ended, by launch."""
    found: dict[str, list[dict[str, Any]]] = {}
    states = {"Name": "instance-state-name", "Values": [*ALIVE, "stopping", "stopped"]}
    for chunk in _chunks(launches):
        for item in _describe(client, [{"Name": f"tag:{TAG}", "Values": chunk}, states]):
            tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", ())}
            found.setdefault(tags.get(TAG, ""), []).append(item)
    return found


def find_by_id(client: EC2Client, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what EC2 says of instances, by id; those that it does not know are left out.

    A filter is no claim that they exist, as naming them would be.
    """
    found = {}
    for chunk in _chunks(names):
        for item in _describe(client, [{"Name": "instance-id", "Values": chunk}]):
            found[item["InstanceId"]] = item
    return found


def _describe(client: EC2Client, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("describe_instances")
    for page in pages.paginate(Filters=filters):  # type: ignore[arg-type]
        for reservation in page["Reservations"]:
            for item in reservation["Instances"]:
                yield dict(item)


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def to_instance(found: dict[str, Any], *, launch: str, region: str) -> Instance:
    """Return our record of an instance: its id is its name, and cloud-init's on the machine."""
    details = {
        "type": found.get("InstanceType"),
        "zone": found.get("Placement", {}).get("AvailabilityZone"),
        "market": "spot" if found.get("InstanceLifecycle") == "spot" else "on-demand",
        "address": found.get("PublicIpAddress") or found.get("PrivateIpAddress"),
        "region": region,
    }
    return Instance(
        name=found["InstanceId"],
        launch=launch,
        details={name: value for name, value in details.items() if value},
        address=found.get("PrivateIpAddress") or None,
        public_address=found.get("PublicIpAddress") or None,
        identity=_find_identity(found, region),
    )


def _find_identity(found: dict[str, Any], region: str) -> str | None:
    """Return the value of `ec2:SourceInstanceARN` in what a machine with a role asks for.

    Partition and account are those of its profile, which the machine knows as well
    (IAM User Guide, "AWS global condition context keys", cross-service keys).
    """
    profile = found.get("IamInstanceProfile", {}).get("Arn", "").split(":")
    if len(profile) < 6:
        return None
    return f"arn:{profile[1]}:ec2:{region}:{profile[4]}:instance/{found['InstanceId']}"


def to_state(found: dict[str, Any]) -> State:
    """Return how an instance is, in EC2's own words."""
    word = found["State"]["Name"]
    if word in ALIVE:
        public = found.get("PublicIpAddress") or None
        return State(alive=True, word=word, public_address=public)
    told = found.get("StateReason", {})
    reason = told.get("Message") or found.get("StateTransitionReason") or None
    explained = _REASONS.get(told.get("Code", ""))
    if reason and explained:
        reason = f"{reason} ({explained})"
    return State(alive=False, word=word, reason=reason)


def read_console(client: EC2Client, name: str) -> str:
    """Return what an instance printed; botocore decodes it.

    Only instances on Nitro have the newest output; others give what was there after boot.
    """
    try:
        answer = client.get_console_output(InstanceId=name, Latest=True)
    except ClientError as error:
        if find_code(error) not in (
            "UnsupportedOperation",
            "Unsupported",
            "InvalidParameterCombination",
        ):
            raise
        answer = client.get_console_output(InstanceId=name)
    return str(answer.get("Output", ""))


@dataclass(kw_only=True, slots=True)
class Ending:
    """What came of ending instances: why some could not be, and which EC2 does not know."""

    failed: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


def end(client: EC2Client, names: Iterable[str]) -> Ending:
    """End instances; each that is in neither member of the answer is shutting down.

    EC2 ends none of a call that it refuses for one of them, so those are asked for alone.
    """
    done = Ending()
    for chunk in _chunks(names):
        _end_chunk(client, chunk, done)
    return done


def _end_chunk(client: EC2Client, chunk: list[str], done: Ending) -> None:
    try:
        answer = client.terminate_instances(InstanceIds=chunk)
    except ClientError as error:
        code = find_code(error)
        if code == "InvalidInstanceID.NotFound":
            unknown = set(_ID.findall(str(error))) & set(chunk) if len(chunk) > 1 else set(chunk)
            if unknown:
                done.unknown |= unknown
                rest = [name for name in chunk if name not in unknown]
                if rest:
                    _end_chunk(client, rest, done)
                return
        if len(chunk) == 1 or not code.startswith(_ABOUT_ONE):
            done.failed.update(dict.fromkeys(chunk, tell(error)))
            return
        for name in chunk:
            _end_chunk(client, [name], done)
        return
    except FAULTS as error:
        done.failed.update(dict.fromkeys(chunk, tell(error)))
        return
    states = {
        item["InstanceId"]: item["CurrentState"]["Name"] for item in answer["TerminatingInstances"]
    }
    for name in chunk:
        if states.get(name) not in ENDED:
            done.failed[name] = f"EC2 says that it is `{states.get(name, 'unknown')}`"
