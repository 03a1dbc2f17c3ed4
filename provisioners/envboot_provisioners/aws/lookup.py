"""A spec looked up in its region: machines, image, places, groups; all that is wrong, at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from envboot.errors import ProvisionError, name_some
from envboot.platforms import find_target
from envboot.toml import read_data
from envboot_provisioners.aws.errors import DENIED, FAULTS, find_code
from envboot_provisioners.aws.networks import find_network
from envboot_provisioners.aws.options import PLATFORM
from envboot_provisioners.aws.request import AwsImage, AwsPlan
from envboot_provisioners.clouds import find_root_fault
from envboot_provisioners.faults import Fault, raise_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.options import AwsSpec

ARCHITECTURES = {"linux-64": "x86_64", "linux-aarch64": "arm64"}
"""EC2's names of the processors that machines can have (API Reference, "ProcessorInfo")."""


def find_parameter(image: str, platform: str) -> str:
    """Return the public parameter that holds the newest image of a distribution.

    The sources are in `templates/aws-images.toml`.
    """
    table = read_data("aws-images.toml")[image]
    name: str = table["parameter"].format(table["names"][platform])
    return name


def look_up(clients: AwsClients, spec: AwsSpec, *, known: Sequence[Fault] = ()) -> AwsPlan:
    """Return the plan for a spec; `known` are faults that were found before.

    Raises:
        ProvisionError: everything that could never start, at once; or AWS refuses to tell.
    """
    faults = list(known)
    message = f"Failed to look up what EC2 has in `{clients.region}`"
    try:
        platform = _find_platform(clients, spec, faults)
        image = _find_image(clients, spec, platform, faults)
        network = find_network(clients, spec, faults)
        _check_key(clients, spec, faults)
        together = _find_strategy(clients, spec, faults) == "cluster"
        _check_profile(clients, spec, faults)
    except FAULTS as error:
        raise clients.explain(error, message) from error
    if image and (fault := find_root_fault(spec.root_size, image=image.id, least=image.size)):
        faults.append(fault)
    raise_faults(faults, PLATFORM)
    if not platform or not image:
        raise ProvisionError(message)
    return AwsPlan(
        spec=spec,
        region=clients.region,
        platform=platform,
        image=image,
        places=network.places,
        groups=network.groups,
        together=together,
    )


def _find_platform(clients: AwsClients, spec: AwsSpec, faults: list[Fault]) -> str | None:
    """Return the platform of an instance type, None where that is a fault."""
    kind = spec.instance_type
    if "instance-type" in spec.malformed:
        return None
    try:
        found = clients.ec2.describe_instance_types(InstanceTypes=[kind])  # type: ignore[list-item]
    except ClientError as error:
        if find_code(error) not in ("InvalidInstanceType", "InvalidParameterValue"):
            raise
        faults.append(_unknown_type(clients, kind))
        return None
    described = found["InstanceTypes"]
    if not described:
        faults.append(_unknown_type(clients, kind))
        return None
    names = described[0]["ProcessorInfo"]["SupportedArchitectures"]
    if spec.spot and "spot" not in described[0].get("SupportedUsageClasses", ["spot"]):
        faults.append(
            Fault(message=f"Cannot have `{kind}` as spot instances", hint="Leave `--spot`")
        )
    if "ebs" not in described[0].get("SupportedRootDeviceTypes", ["ebs"]):
        faults.append(
            Fault(message=f"Cannot give `{kind}` a disk of EBS", hint="Take a newer type")
        )
    platform = next((find_target(name) for name in ARCHITECTURES.values() if name in names), None)
    if platform is None:
        faults.append(
            Fault(message=f"Expected a type of x86-64 or arm64, found `{kind}` ({names[0]})")
        )
    return platform


def _unknown_type(clients: AwsClients, kind: str) -> Fault:
    pages = clients.ec2.get_paginator("describe_instance_type_offerings")
    offered = [
        item["InstanceType"]
        for page in pages.paginate(LocationType="region")
        for item in page["InstanceTypeOfferings"]
    ]
    family = kind.partition(".")[0]
    like = difflib.get_close_matches(kind, offered, n=4, cutoff=0.7)
    like += sorted(name for name in offered if name.startswith(f"{family}."))[:4]
    hint = f"Close to it are {name_some(list(dict.fromkeys(like)), most=5)}" if like else None
    return Fault(
        message=f"Instance type `{kind}` is not offered in `{clients.region}`",
        hint=hint or "`aws ec2 describe-instance-type-offerings` lists what the region has",
    )


def _find_image(
    clients: AwsClients, spec: AwsSpec, platform: str | None, faults: list[Fault]
) -> AwsImage | None:
    """Return the image for a platform, None where that is a fault or depends on one."""
    name = spec.image
    if not name.startswith(("ami-", "/")):
        if platform is None:
            return None
        try:
            name = find_parameter(name, platform)
        except KeyError:
            return None  # The word itself is a fault that is known.
    if name.startswith("/"):
        read = _read_parameter(clients, name, faults)
        if read is None:
            return None
        name = read
    try:
        found = clients.ec2.describe_images(ImageIds=[name])["Images"]
    except ClientError as error:
        if not find_code(error).startswith("InvalidAMIID"):
            raise
        found = []
    if not found:
        faults.append(
            Fault(
                message=f"Image `{name}` was not found in `{clients.region}`",
                hint="Images belong to one region; a private one must be shared with this account",
            )
        )
        return None
    return _check_image(dict(found[0]), spec.instance_type, platform, faults)


def _read_parameter(clients: AwsClients, name: str, faults: list[Fault]) -> str | None:
    try:
        value = clients.ssm.get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError as error:
        if find_code(error) not in ("ParameterNotFound", "ValidationException"):
            raise
        value = ""
    if value.startswith("ami-"):
        return value
    seen = f", found `{value:.60}`" if value else ", found none"
    faults.append(
        Fault(
            message=f"Expected an `ami-…` in the parameter `{name}` in `{clients.region}`{seen}",
            hint="Name an image of the region with `--image ami-…`",
        )
    )
    return None


def _check_image(
    image: dict[str, Any], kind: str, platform: str | None, faults: list[Fault]
) -> AwsImage:
    """Check that the image can be the root of such instances.

    Source: EC2 API Reference, "Image": `Platform` is `windows` or absent.
    """
    name, architecture = image["ImageId"], image.get("Architecture", "x86_64")
    if platform and architecture != ARCHITECTURES[platform]:
        faults.append(
            Fault(
                message=f"Expected an image of `{ARCHITECTURES[platform]}`, which `{kind}` is, "
                f"found `{name}` of `{architecture}`",
                hint="Take another `--image`, or an `--instance-type` of that architecture",
            )
        )
    if image.get("State", "available") != "available":
        faults.append(Fault(message=f"Image `{name}` is `{image['State']}`, not `available`"))
    if image.get("Platform") == "windows":
        faults.append(Fault(message=f"Expected an image of Linux, found `{name}` of Windows"))
    root = image.get("RootDeviceName") or "/dev/sda1"
    if image.get("RootDeviceType", "ebs") != "ebs":
        faults.append(Fault(message=f"Expected an image on a disk of EBS, found `{name}`"))
    sizes = {
        mapping.get("DeviceName"): mapping.get("Ebs", {}).get("VolumeSize", 0)
        for mapping in image.get("BlockDeviceMappings", ())
    }
    return AwsImage(id=name, root_device=root, size=sizes.get(root, 0))


def _check_key(clients: AwsClients, spec: AwsSpec, faults: list[Fault]) -> None:
    if not spec.key:
        return
    try:
        found = clients.ec2.describe_key_pairs(KeyNames=[spec.key])["KeyPairs"]
    except ClientError as error:
        if not find_code(error).startswith("InvalidKeyPair"):
            raise
        found = []
    if not found:
        faults.append(
            Fault(
                message=f"Key pair `{spec.key}` was not found in `{clients.region}`",
                hint="`aws ec2 describe-key-pairs` lists the region's keys; envboot needs none",
            )
        )


def _find_strategy(clients: AwsClients, spec: AwsSpec, faults: list[Fault]) -> str | None:
    if not spec.placement:
        return None
    try:
        found = clients.ec2.describe_placement_groups(GroupNames=[spec.placement])
        groups = found["PlacementGroups"]
    except ClientError as error:
        if not find_code(error).startswith("InvalidPlacementGroup"):
            raise
        groups = []
    if groups:
        return groups[0].get("Strategy")
    faults.append(
        Fault(
            message=f"Placement group `{spec.placement}` was not found in `{clients.region}`",
            hint="`aws ec2 describe-placement-groups` lists the groups",
        )
    )
    return None


def _check_profile(clients: AwsClients, spec: AwsSpec, faults: list[Fault]) -> None:
    """Check the instance profile, where this identity may look; else RunInstances does."""
    if not spec.profile or "instance-profile" in spec.malformed:
        return
    name = spec.profile.rpartition("/")[2]
    look: Callable[..., Any] = clients.iam.get_instance_profile
    try:
        roles = look(InstanceProfileName=name)["InstanceProfile"]["Roles"]
    except ClientError as error:
        if find_code(error) in DENIED:
            return
        if find_code(error) != "NoSuchEntity":
            raise
        faults.append(
            Fault(
                message=f"Instance profile `{spec.profile}` was not found",
                hint="`aws iam list-instance-profiles` lists them; a role needs one around it",
            )
        )
        return
    if not roles:
        faults.append(
            Fault(
                message=f"Instance profile `{spec.profile}` holds no role",
                hint=f"`aws iam add-role-to-instance-profile --instance-profile-name {name} "
                "--role-name ROLE` adds one",
            )
        )
