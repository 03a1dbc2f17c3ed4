"""A spec looked up in its project: machines, image, zones, network; all that is wrong, at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from envboot.errors import ProvisionError, name_some
from envboot.platforms import find_target
from envboot_provisioners.clouds import find_root_fault
from envboot_provisioners.faults import Fault, raise_faults
from envboot_provisioners.gcp.clients import RETRY, TIMEOUT
from envboot_provisioners.gcp.errors import FAULTS, explain, is_missing
from envboot_provisioners.gcp.options import IMAGES, PLATFORM, find_image
from envboot_provisioners.gcp.request import GcpImage, GcpPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud import compute_v1

    from envboot_provisioners.gcp.clients import GcpClients
    from envboot_provisioners.gcp.options import GcpSpec

ARCHITECTURES = {"linux-64": "X86_64", "linux-aarch64": "ARM64"}
"""Compute Engine's names of processors (API, "Image.architecture")."""
ARM = ("a4x", "c4a", "n4a", "t2a")
"""Families of Arm processors, for where the API leaves the architecture out."""
ASKED: dict[str, Any] = {"retry": RETRY, "timeout": TIMEOUT}


def look_up(clients: GcpClients, spec: GcpSpec, *, known: Sequence[Fault] = ()) -> GcpPlan:
    """Return the plan for a spec; `known` are faults that were found before.

    Raises:
        ProvisionError: everything that could never start, at once; or Google refuses to tell.
    """
    faults = list(known)
    message = f"Failed to look up what Compute Engine has in `{clients.project}`"
    region = ""
    only: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    types: dict[str, compute_v1.MachineType] = {}
    try:
        region, only = clients.find_place(spec)
    except ProvisionError as error:
        faults.append(Fault(message=error.message, hint=error.hint))
    try:
        if region and not spec.malformed & {"project", "region", "zone"}:
            zones = _find_zones(clients, region, only, faults)
            if "machine-type" not in spec.malformed:
                types = _find_types(clients, spec, zones, region, faults)
        platform = _find_platform(spec, types)
        image = _find_image(clients, spec, platform, faults)
        network, subnet = _find_network(clients, spec, region, faults)
    except FAULTS as error:
        raise explain(error, message, clients.credentials) from error
    if image and (fault := find_root_fault(spec.root_size, image=image.path, least=image.size)):
        faults.append(fault)
    raise_faults(faults, PLATFORM)
    if not image or not types:
        raise ProvisionError(message)
    return GcpPlan(
        spec=spec,
        project=clients.project,
        region=region,
        platform=platform,
        image=image,
        zones=tuple(types),
        network=network,
        subnet=subnet,
        is_fixed=any(found.accelerators for found in types.values()),
    )


def _find_zones(
    clients: GcpClients, region: str, only: tuple[str, ...], faults: list[Fault]
) -> tuple[str, ...]:
    """Return the zones that may be used, in the user's order."""
    found = [
        zone.name
        for zone in clients.zones.list(request={"project": clients.project}, **ASKED)
        if zone.status == "UP"
    ]
    here = sorted(name for name in found if name.rpartition("-")[0] == region)
    hint = "`gcloud compute zones list` lists regions and zones"
    if not here:
        regions = sorted({name.rpartition("-")[0] for name in found})
        like = difflib.get_close_matches(region, regions, n=3)
        near = f"Close to it are {name_some(like)}" if like else hint
        faults.append(Fault(message=f"Region `{region}` was not found", hint=near))
        return ()
    missing = [zone for zone in only if zone not in here]
    if missing:
        many = name_some(here, most=9)
        text = f"Zone {name_some(missing)} was not found in `{region}`"
        faults.append(Fault(message=text, hint=f"It has {many}"))
    return tuple(zone for zone in only if zone in here) if only else tuple(here)


def _find_types(
    clients: GcpClients,
    spec: GcpSpec,
    zones: tuple[str, ...],
    region: str,
    faults: list[Fault],
) -> dict[str, compute_v1.MachineType]:
    """Return what is told of the machine type, by those of the zones that offer it."""
    if not zones:
        return {}
    kind = spec.machine_type
    request = {"project": clients.project, "filter": f'name = "{kind}"'}
    offered = {
        scope.removeprefix("zones/"): listed.machine_types[0]
        for scope, listed in clients.machine_types.aggregated_list(request=request, **ASKED)
        if listed.machine_types
    }
    found = {zone: offered[zone] for zone in zones if zone in offered}
    if found:
        return found
    if offered:
        where = ", ".join(f"`{zone}`" for zone in zones) if spec.zones else f"`{region}`"
        message = f"Machine type `{kind}` is not offered in {where}"
        hint = f"It is in {name_some(sorted(offered))}"
    else:
        names = [
            listed.name
            for listed in clients.machine_types.list(
                request={"project": clients.project, "zone": zones[0]}, **ASKED
            )
        ]
        like = difflib.get_close_matches(kind, names, n=4, cutoff=0.7)
        message = f"Machine type `{kind}` was not found"
        hint = (
            f"Close to it are {name_some(like)}"
            if like
            else f"`gcloud compute machine-types list --zones {zones[0]}` lists what there is"
        )
    faults.append(Fault(message=message, hint=hint))
    return {}


def _find_platform(spec: GcpSpec, types: dict[str, compute_v1.MachineType]) -> str:
    """Return the platform of the machine type: as the API says, else by the family's name."""
    told = next((found.architecture for found in types.values() if found.architecture), "")
    family = spec.machine_type.partition("-")[0]
    if told not in ARCHITECTURES.values():
        told = ARCHITECTURES["linux-aarch64" if family in ARM else "linux-64"]
    return find_target(told)


def _find_image(
    clients: GcpClients, spec: GcpSpec, platform: str, faults: list[Fault]
) -> GcpImage | None:
    """Return the image for a platform, None where that is a fault."""
    path = find_image(spec, platform) if "image" not in spec.malformed else None
    if path is None:
        return None
    try:
        if path.is_family:
            request = {"project": path.project, "family": path.name}
            found = clients.images.get_from_family(request=request, **ASKED)
        else:
            request = {"project": path.project, "image": path.name}
            found = clients.images.get(request=request, **ASKED)
    except FAULTS as error:
        if not is_missing(error):
            raise
        faults.append(
            Fault(
                message=f"Image `{spec.image}` was not found in the project `{path.project}`",
                hint="`gcloud compute images list` lists public ones; of another project this "
                "identity needs `roles/compute.imageUser`",
            )
        )
        return None
    architecture = found.architecture or ARCHITECTURES[platform]
    if architecture != ARCHITECTURES[platform] and spec.image not in IMAGES:
        faults.append(
            Fault(
                message=f"Expected an image of `{ARCHITECTURES[platform]}`, which "
                f"`{spec.machine_type}` is, found `{spec.image}` of `{architecture}`",
                hint="Take another `--image`, or a `--machine-type` of that architecture",
            )
        )
    features = {feature.type_ for feature in found.guest_os_features}
    if "WINDOWS" in features:
        faults.append(Fault(message=f"Expected an image of Linux, found `{spec.image}` of Windows"))
    if spec.shielded and "UEFI_COMPATIBLE" not in features:
        faults.append(
            Fault(
                message=f"Image `{spec.image}` cannot be a Shielded VM: it does not boot by UEFI",
                hint="Take another `--image`, or leave `--shielded` out",
            )
        )
    return GcpImage(
        path=f"projects/{path.project}/global/images/{found.name}",
        size=found.disk_size_gb,
        is_shieldable="UEFI_COMPATIBLE" in features,
    )


def _find_network(
    clients: GcpClients, spec: GcpSpec, region: str, faults: list[Fault]
) -> tuple[str | None, str | None]:
    """Return the paths of the network and of the subnet, as far as they must be named.

    A subnet belongs to one network. One of a shared VPC is another project's: its path says so.
    """
    if spec.malformed & {"network", "subnet"}:
        return None, None
    network = _expand(spec.network or "default", f"projects/{clients.project}/global/networks/")
    if spec.subnet is None:
        if not _is_there(clients.networks, network, "network"):
            faults.append(
                Fault(
                    message=f"Network `{spec.network or 'default'}` was not found in "
                    f"`{clients.project}`",
                    hint="Name one with `--network` or `--subnet`; `gcloud compute networks list` "
                    "lists them",
                )
            )
        return network, None
    start = f"projects/{clients.project}/regions/{region}/subnetworks/"
    subnet = _expand(spec.subnet, start)
    if region and f"/regions/{region}/" not in subnet:
        faults.append(Fault(message=f"Expected a subnet in `{region}`, found `{spec.subnet}`"))
    elif region and not _is_there(clients.subnetworks, subnet, "subnetwork"):
        faults.append(
            Fault(
                message=f"Subnet `{spec.subnet}` was not found in `{region}`",
                hint="`gcloud compute networks subnets list` lists subnets and their regions",
            )
        )
    return (network if spec.network else None), subnet


def _expand(name: str, start: str) -> str:
    return name if "/" in name else start + name


def _is_there(client: Any, path: str, kind: str) -> bool:
    words = path.split("/")
    request = {"project": words[1], kind: words[-1]}
    if kind == "subnetwork":
        request["region"] = words[3]
    try:
        client.get(request=request, **ASKED)
    except FAULTS as error:
        if not is_missing(error):
            raise
        return False
    return True
