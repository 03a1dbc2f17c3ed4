"""Subnets and security groups of a spec, looked up in its region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.errors import name_some
from envboot_provisioners.aws.request import AwsPlace
from envboot_provisioners.faults import Fault

if TYPE_CHECKING:
    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.options import AwsSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsNetwork:
    """Where instances may be, and the ids of their security groups."""

    places: tuple[AwsPlace, ...] = ()
    groups: tuple[str, ...] = ()


def find_network(clients: AwsClients, spec: AwsSpec, faults: list[Fault]) -> AwsNetwork:
    """Return the subnets in zones that offer the type, and the groups' ids.

    Subnets are tried in the order that the user gave, those of the default VPC by their zones.
    """
    found = None
    if not spec.malformed & {"subnet", "zone"}:
        found = _find_subnets(clients, spec, faults)
    if found is None:
        return AwsNetwork()
    networks = {subnet["VpcId"] for subnet in found}
    if len(networks) > 1:
        faults.append(
            Fault(message=f"Expected subnets of one VPC, found {name_some(sorted(networks))}")
        )
    groups = _find_groups(clients, spec, min(networks, default=None), faults)
    places = [AwsPlace(subnet=item["SubnetId"], zone=item["AvailabilityZone"]) for item in found]
    if spec.zones:
        places = [place for place in places if place.zone in spec.zones]
        missing = [zone for zone in spec.zones if zone not in {place.zone for place in places}]
        if missing:
            where = "of `--subnet`" if spec.subnets else "of the default VPC"
            faults.append(
                Fault(
                    message=f"No subnet {where} is in {name_some(missing)}",
                    hint="`aws ec2 describe-subnets` lists subnets and their zones",
                )
            )
    offered = _find_zones(clients, spec.instance_type)
    # An unknown type is offered nowhere, which is said already; some clouds do not tell at all.
    if places and offered and not any(place.zone in offered for place in places):
        faults.append(
            Fault(
                message=f"Instance type `{spec.instance_type}` is not offered in "
                + name_some(sorted({place.zone for place in places})),
                hint=f"It is in {name_some(sorted(offered))}",
            )
        )
    chosen = (place for place in places if not offered or place.zone in offered)
    return AwsNetwork(places=tuple(chosen), groups=groups)


def _find_subnets(clients: AwsClients, spec: AwsSpec, faults: list[Fault]) -> list[Any] | None:
    pages = clients.ec2.get_paginator("describe_subnets")
    if not spec.subnets:
        filters = [{"Name": "default-for-az", "Values": ["true"]}]
        chosen = [
            item
            for page in pages.paginate(Filters=filters)  # type: ignore[arg-type]
            for item in page["Subnets"]
        ]
        if chosen:
            return sorted(chosen, key=lambda item: item["AvailabilityZone"])
        faults.append(
            Fault(
                message=f"Expected a subnet: `{clients.region}` has no default VPC",
                hint="Name one with `--subnet`; `aws ec2 describe-subnets` lists them",
            )
        )
        return None
    filters = [{"Name": "subnet-id", "Values": list(spec.subnets)}]
    by_id = {
        item["SubnetId"]: item
        for page in pages.paginate(Filters=filters)  # type: ignore[arg-type]
        for item in page["Subnets"]
    }
    missing = [name for name in spec.subnets if name not in by_id]
    if missing:
        faults.append(
            Fault(
                message=f"Subnets {name_some(missing)} were not found in `{clients.region}`",
                hint="`aws ec2 describe-subnets` lists the region's subnets",
            )
        )
    return [by_id[name] for name in spec.subnets if name in by_id] or None


def _find_groups(
    clients: AwsClients, spec: AwsSpec, network: str | None, faults: list[Fault]
) -> tuple[str, ...]:
    """Return the ids of groups that were given by id or name, all of one VPC."""
    if not spec.groups or network is None:
        return ()
    pages = clients.ec2.get_paginator("describe_security_groups")
    filters = [{"Name": "vpc-id", "Values": [network]}]
    known: dict[str, str] = {}
    for page in pages.paginate(Filters=filters):  # type: ignore[arg-type]
        for item in page["SecurityGroups"]:
            known[item["GroupName"]] = known[item["GroupId"]] = item["GroupId"]
    missing = [name for name in spec.groups if name not in known]
    if missing:
        faults.append(
            Fault(
                message=f"Security groups {name_some(missing)} were not found in `{network}`",
                hint="`aws ec2 describe-security-groups` lists the groups; they belong to one VPC",
            )
        )
    return tuple(dict.fromkeys(known[name] for name in spec.groups if name in known))


def _find_zones(clients: AwsClients, kind: str) -> set[str]:
    pages = clients.ec2.get_paginator("describe_instance_type_offerings")
    filters = [{"Name": "instance-type", "Values": [kind]}]
    return {
        item["Location"]
        for page in pages.paginate(LocationType="availability-zone", Filters=filters)  # type: ignore[arg-type]
        for item in page["InstanceTypeOfferings"]
    }
