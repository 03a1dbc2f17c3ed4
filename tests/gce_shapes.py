"""What the published API says of requests to Compute Engine: paths, members, permissions.

Bodies and queries are read by the types of google-cloud-compute, which are generated from the
API's own description: an unknown member, or one of another type, is refused.
"""

from __future__ import annotations

import re
import uuid
from typing import Any, TypeAlias

from google.cloud import compute_v1
from google.protobuf import json_format

TYPES = {"e2-standard-4": "X86_64", "c4a-standard-8": "ARM64", "g2-standard-4": "X86_64"}
IMAGES = {
    "ubuntu-os-cloud": ("ubuntu-2404-lts-amd64", "ubuntu-2404-lts-arm64", "ubuntu-2204-lts"),
    "debian-cloud": ("debian-12", "debian-12-arm64"),
    "rocky-linux-cloud": ("rocky-linux-9", "rocky-linux-9-arm64"),
}
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")
LIMIT = 262_144


class RefusedError(Exception):
    """An error as the API tells it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


_Z = r"/zones/(?P<zone>[^/]+)"
_V = compute_v1
_BULK = [f"compute.instances.{word}" for word in ("create", "setMetadata", "setLabels")]
_BULK += ["compute.disks.create", "compute.disks.setLabels", "compute.subnetworks.use"]
_Route: TypeAlias = tuple[str, str, str, Any, list[str]]
ROUTES: list[_Route] = [
    ("/zones", "GET", "zones.list", _V.ListZonesRequest, ["compute.zones.list"]),
    (
        "/aggregated/machineTypes", "GET", "machineTypes.aggregatedList",
        _V.AggregatedListMachineTypesRequest, ["compute.machineTypes.list"],
    ),
    (
        f"{_Z}/machineTypes", "GET", "machineTypes.list",
        _V.ListMachineTypesRequest, ["compute.machineTypes.list"],
    ),
    (
        f"{_Z}/machineTypes/(?P<name>[^/]+)", "GET", "machineTypes.get",
        _V.GetMachineTypeRequest, ["compute.machineTypes.get"],
    ),
    (
        "/regions/(?P<name>[^/]+)", "GET", "regions.get",
        _V.GetRegionRequest, ["compute.regions.get"],
    ),
    (
        "/global/images/family/(?P<family>[^/]+)", "GET", "images.getFromFamily",
        _V.GetFromFamilyImageRequest, [],
    ),
    ("/global/images/(?P<name>[^/]+)", "GET", "images.get", _V.GetImageRequest, []),
    (
        "/global/networks/(?P<name>[^/]+)", "GET", "networks.get",
        _V.GetNetworkRequest, ["compute.networks.get"],
    ),
    (
        "/regions/[^/]+/subnetworks/(?P<name>[^/]+)", "GET", "subnetworks.get",
        _V.GetSubnetworkRequest, ["compute.subnetworks.get"],
    ),
    (
        f"{_Z}/instances/bulkInsert", "POST", "instances.bulkInsert",
        _V.BulkInsertInstanceRequest, _BULK,
    ),
    (
        "/aggregated/instances", "GET", "instances.aggregatedList",
        _V.AggregatedListInstancesRequest, ["compute.instances.list"],
    ),
    (
        f"{_Z}/instances/(?P<name>[^/]+)", "DELETE", "instances.delete",
        _V.DeleteInstanceRequest, ["compute.instances.delete"],
    ),
    (
        f"{_Z}/instances/(?P<name>[^/]+)/serialPort", "GET", "instances.getSerialPortOutput",
        _V.GetSerialPortOutputInstanceRequest, ["compute.instances.getSerialPortOutput"],
    ),
    (
        f"{_Z}/operations/(?P<name>[^/]+)", "GET", "zoneOperations.get",
        _V.GetZoneOperationRequest, ["compute.zoneOperations.get"],
    ),
    (
        f"{_Z}/operations", "GET", "zoneOperations.list",
        _V.ListZoneOperationsRequest, ["compute.zoneOperations.list"],
    ),
    (
        "/global/operations/(?P<name>[^/]+)", "GET", "globalOperations.get",
        _V.GetGlobalOperationRequest, ["compute.globalOperations.get"],
    ),
    (
        "/global/instanceTemplates/(?P<name>[^/]+)", "GET", "instanceTemplates.get",
        _V.GetInstanceTemplateRequest, ["compute.instanceTemplates.get"],
    ),
    (
        "/global/instanceTemplates", "POST", "instanceTemplates.insert",
        _V.InsertInstanceTemplateRequest, ["compute.instanceTemplates.create", *_BULK],
    ),
]  # fmt: skip


def route(method: str, path: str) -> tuple[dict[str, str], _Route]:
    for row in ROUTES:
        found = re.fullmatch(rf"/compute/v1/projects/(?P<project>[^/]+){row[0]}", path)
        if found and method == row[1]:
            return found.groupdict(), row
    raise RefusedError(404, "notFound", f"No method {method} {path}")


def match(pattern: str, text: str) -> re.Match[str]:
    found = re.fullmatch(pattern, text)
    if not found:
        raise RefusedError(400, "invalid", f"Invalid value for field 'filter': {text!r}")
    return found


def snake(action: str) -> str:
    return "_" + re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", action).replace(".", "_")


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def parse(kind: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as the type has it."""
    message = kind.pb(kind())
    try:
        json_format.ParseDict(body, message)
    except json_format.ParseError as error:
        raise RefusedError(400, "badRequest", str(error)) from error
    return body


def type_of(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": kind, "architecture": TYPES[kind], "guestCpus": 4}
    if kind.startswith("g2"):
        made["accelerators"] = [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}]
    return made


def image_of(name: str) -> dict[str, Any]:
    architecture = "ARM64" if "arm64" in name else "X86_64"
    features = [] if "bios" in name else [{"type": "UEFI_COMPATIBLE"}]
    return {
        "name": name,
        "diskSizeGb": "10",
        "architecture": architecture,
        "guestOsFeatures": features,
    }


def check_query(kind: Any, query: dict[str, list[str]]) -> None:
    """Refuse a query that the request of a type does not have."""
    known = {camel(name) for name in kind.meta.fields}
    for name, values in query.items():
        if name not in known:
            raise RefusedError(400, "badRequest", f"Unknown name {name!r}")
        if name == "requestId" and uuid.UUID(values[0]).int == 0:
            raise RefusedError(400, "badRequest", "The zero UUID is not supported")
