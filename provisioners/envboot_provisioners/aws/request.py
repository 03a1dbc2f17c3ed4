"""What EC2 is asked for: the members of RunInstances and of a launch template's data. Pure."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot_provisioners.clouds import size_root

if TYPE_CHECKING:
    from envboot_provisioners.aws.options import AwsSpec

SMALLEST_ROOT = 8
TAG = "envboot:launch"


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsImage:
    """An image: its id, its root device's name and the GiB that its snapshot needs."""

    id: str
    root_device: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsPlace:
    """Where instances may be: a subnet, and the zone that it is in."""

    subnet: str
    zone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsPlan:
    """A spec, looked up in its region.

    `platform` is the machines'; `places` are where their type is offered, the preferred first;
    `groups` are ids. With `together` a placement group wants all instances in one zone.
    """

    spec: AwsSpec
    region: str
    platform: str
    image: AwsImage
    places: tuple[AwsPlace, ...]
    groups: tuple[str, ...] = ()
    together: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsAttempt:
    """One call of RunInstances, which starts from `least` to `most` instances or none."""

    place: AwsPlace
    market: str
    least: int
    most: int
    number: int


def find_root_size(plan: AwsPlan, room: int) -> int:
    """Return the GiB of the root volume for an environment that may need `room` bytes.

    Raises:
        ProvisionError: what the user wants is smaller than the image.
    """
    return size_root(
        plan.spec.root_size,
        image=plan.image.id,
        least=plan.image.size,
        smallest=SMALLEST_ROOT,
        room=room,
    )


def compose_run(
    plan: AwsPlan, attempt: AwsAttempt, *, launch: str, user_data: bytes, room: int, first: int = 0
) -> dict[str, Any]:
    """Return the arguments of one RunInstances.

    The token makes EC2 answer a repeated call with what the first one started (EC2 API
    Reference, "Ensuring idempotency"; at most 64 ASCII characters). boto3 encodes user-data.
    `first` is how many instances of the launch were started before.
    """
    start = f"{launch}/{first}" if first else launch
    token = hashlib.sha256(f"{start}/{attempt.number}".encode()).hexdigest()
    return {
        **_compose(plan, launch, room=room, market=attempt.market, subnet=attempt.place.subnet),
        "MinCount": attempt.least,
        "MaxCount": attempt.most,
        "ClientToken": token,
        "UserData": user_data,
    }


def compose_template(plan: AwsPlan, *, name: str, user_data: str, room: int) -> dict[str, Any]:
    """Return a launch template's data; `user_data` is base64 already.

    Whoever launches from it chooses among several subnets or zones: a template has one or none.
    """
    spec = plan.spec
    only = plan.places[0].subnet if len(plan.places) == 1 and spec.subnets else None
    market = "spot" if spec.spot else "on-demand"
    data = _compose(plan, name, room=room, market=market, subnet=only)
    # A template has no member for the subnet but that of its interface.
    if only and "NetworkInterfaces" not in data:
        del data["SubnetId"]
        groups = {"Groups": data.pop("SecurityGroupIds")} if plan.groups else {}
        data["NetworkInterfaces"] = [_interface(only, groups)]
    if not spec.subnets and len(spec.zones) == 1:
        data.setdefault("Placement", {})["AvailabilityZone"] = spec.zones[0]
    return {**data, "UserData": user_data}


def encode_user_data(payload: bytes, encoding: str | None) -> str:
    """Return what a template's `UserData` must be: base64, once."""
    return payload.decode("ascii") if encoding == "base64" else base64.b64encode(payload).decode()


def _compose(
    plan: AwsPlan, launch: str, *, room: int, market: str, subnet: str | None
) -> dict[str, Any]:
    """Return what instances and templates have in common."""
    spec = plan.spec
    disk = {
        "VolumeSize": find_root_size(plan, room),
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    data: dict[str, Any] = {
        "ImageId": plan.image.id,
        "InstanceType": spec.instance_type,
        "BlockDeviceMappings": [{"DeviceName": plan.image.root_device, "Ebs": disk}],
        # With one hop the answer cannot reach containers; version 1 would answer any request
        # that a process can be made to send.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        },
        # `shutdown` inside a machine ends its costs too.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": _tags(spec, launch, market),
    }
    if spec.profile:
        member = "Arn" if spec.profile.startswith("arn:") else "Name"
        data["IamInstanceProfile"] = {member: spec.profile}
    if spec.key:
        data["KeyName"] = spec.key
    if spec.placement:
        data["Placement"] = {"GroupName": spec.placement}
    if market == "spot":
        price = {"MaxPrice": spec.max_price} if spec.max_price else {}
        data["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
                **price,
            },
        }
    if spec.public_ip is not None:
        groups = {"Groups": list(plan.groups)} if plan.groups else {}
        public = {"AssociatePublicIpAddress": spec.public_ip}
        data["NetworkInterfaces"] = [_interface(subnet, {**groups, **public})]
        return data
    if plan.groups:
        data["SecurityGroupIds"] = list(plan.groups)
    if subnet:
        data["SubnetId"] = subnet
    return data


def _interface(subnet: str | None, rest: dict[str, Any]) -> dict[str, Any]:
    place = {"SubnetId": subnet} if subnet else {}
    return {"DeviceIndex": 0, "DeleteOnTermination": True, **place, **rest}


def _tags(spec: AwsSpec, launch: str, market: str) -> list[dict[str, Any]]:
    tags = {"Name": f"envboot-{launch}", **dict(spec.tags), TAG: launch}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    kinds = ["instance", "volume", "network-interface"]
    kinds += ["spot-instances-request"] if market == "spot" else []
    return [{"ResourceType": kind, "Tags": pairs} for kind in kinds]
