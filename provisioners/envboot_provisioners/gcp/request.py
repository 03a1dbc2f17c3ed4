"""What Compute Engine is asked for: the properties of instances and of instance templates. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot_provisioners.clouds import size_root
from envboot_provisioners.gcp.options import LABEL, SCOPE

if TYPE_CHECKING:
    from envboot_provisioners.gcp.options import GcpSpec

SMALLEST_ROOT = 10
LONGEST_NAME = 63
SHORTEST = 30
"""Seconds that an instance can be told to run at least ("Limit the run time of a VM")."""
EARLIER = 120
"""Seconds by which the platform's end of an instance comes before its own."""
_SPACE = uuid.UUID("7d1f6a0e-6b7e-4f0e-9a55-2f7f2f4d5c11")
_HYPERDISK = ("a4", "c4", "c4a", "c4d", "h4d", "m4", "n4", "n4a", "n4d", "x4")
"""Families whose machines take no Persistent Disk (Compute Engine, "About Hyperdisk")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcpImage:
    """An image: its path, the GiB that it needs, and whether it can be a Shielded VM's."""

    path: str
    size: int
    is_shieldable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GcpPlan:
    """A spec, looked up in its project.

    `zones` are where the machine type is offered, the preferred first; `network` and `subnet`
    are paths. With `is_fixed` such machines cannot be moved to another host while they run.
    """

    spec: GcpSpec
    project: str
    region: str
    platform: str
    image: GcpImage
    zones: tuple[str, ...]
    network: str | None = None
    subnet: str | None = None
    is_fixed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class GcpAttempt:
    """One call of bulkInsert, which starts `least` instances or none, and the `names` at most."""

    zone: str
    market: str
    least: int
    names: tuple[str, ...]
    number: int


def name_instance(launch: str, number: int) -> str:
    """Return the host name of one instance of a launch."""
    return f"envboot-{launch.lower()}-{number}"


def find_root_size(plan: GcpPlan, room: int) -> int:
    """Return the GiB of the disk for an environment that may need `room` bytes.

    Raises:
        ProvisionError: what the user wants is smaller than the image.
    """
    return size_root(
        plan.spec.root_size,
        image=plan.image.path,
        least=plan.image.size,
        smallest=SMALLEST_ROOT,
        room=room,
    )


def find_disk_type(machine_type: str) -> str:
    """Return the balanced kind of disk that such machines take."""
    family = machine_type.partition("-")[0]
    return "hyperdisk-balanced" if family in _HYPERDISK else "pd-balanced"


def make_request_id(*words: object) -> str:
    """Return the id by which Compute Engine knows a repeated call: the same for the same words."""
    return str(uuid.uuid5(_SPACE, "/".join(map(str, words))))


def compose_metadata(user_data: bytes, *, cloud_init: bool, encoding: str | None) -> dict[str, str]:
    """Return the metadata keys that carry the user-data.

    Sources: cloud-init, "Google Compute Engine"; Compute Engine, "Use startup scripts".
    """
    if not cloud_init:
        return {"startup-script": user_data.decode("ascii")}
    keys = {"user-data": user_data.decode("ascii")}
    return {**keys, "user-data-encoding": encoding} if encoding else keys


def find_limit(end: int | None, now: float) -> int | None:
    """Return the seconds after which Compute Engine deletes instances that end at a time.

    Before they would: what has powered off is only stopped, and its disk costs on.
    """
    return None if end is None else max(int(end - now) - EARLIER, SHORTEST)


def compose_bulk(
    plan: GcpPlan,
    attempt: GcpAttempt,
    *,
    launch: str,
    metadata: dict[str, str],
    room: int,
    seconds: int | None = None,
) -> dict[str, Any]:
    """Return a `BulkInsertInstanceResource`; after so many `seconds` instances are deleted."""
    properties = compose_properties(
        plan, launch, metadata=metadata, room=room, market=attempt.market
    )
    if seconds:
        properties["scheduling"]["max_run_duration"] = {"seconds": seconds}
        properties["scheduling"]["instance_termination_action"] = "DELETE"
    return {
        "count": len(attempt.names),
        "min_count": attempt.least,
        "per_instance_properties": {name: {} for name in attempt.names},
        "instance_properties": properties,
    }


def compose_properties(
    plan: GcpPlan, launch: str, *, metadata: dict[str, str], room: int, market: str
) -> dict[str, Any]:
    """Return the `InstanceProperties` that launches and templates have in common."""
    spec = plan.spec
    labels = {**dict(spec.labels), LABEL: launch}
    disk = {
        "source_image": plan.image.path,
        "disk_size_gb": find_root_size(plan, room),
        "disk_type": spec.disk_type or find_disk_type(spec.machine_type),
        "labels": labels,
    }
    properties: dict[str, Any] = {
        "machine_type": spec.machine_type,
        "disks": [{"boot": True, "auto_delete": True, "initialize_params": disk}],
        "labels": labels,
        "metadata": {"items": [{"key": key, "value": text} for key, text in metadata.items()]},
        "network_interfaces": [_interface(plan)],
        "scheduling": _schedule(plan, market),
    }
    if spec.tags:
        properties["tags"] = {"items": list(spec.tags)}
    if spec.service_account:
        account = {"email": spec.service_account, "scopes": list(spec.scopes or (SCOPE,))}
        properties["service_accounts"] = [account]
    if plan.image.is_shieldable:
        wanted = spec.shielded is not False
        properties["shielded_instance_config"] = {
            "enable_secure_boot": wanted,
            "enable_vtpm": wanted,
            "enable_integrity_monitoring": wanted,
        }
    return properties


def _interface(plan: GcpPlan) -> dict[str, Any]:
    interface: dict[str, Any] = {}
    if plan.network:
        interface["network"] = plan.network
    if plan.subnet:
        interface["subnetwork"] = plan.subnet
    if plan.spec.public_ip is not False:
        interface["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    return interface


def _schedule(plan: GcpPlan, market: str) -> dict[str, Any]:
    """Return when the platform may move, restart or end instances.

    A Spot instance can be neither moved nor restarted ("Create and use Spot VMs").
    """
    if market == "spot":
        return {
            "provisioning_model": "SPOT",
            "instance_termination_action": "DELETE",
            "on_host_maintenance": "TERMINATE",
            "automatic_restart": False,
        }
    moved = "TERMINATE" if plan.is_fixed else "MIGRATE"
    return {"provisioning_model": "STANDARD", "on_host_maintenance": moved}
