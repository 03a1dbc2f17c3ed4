"""What Compute Engine knows of instances: finding them, how they are, their console, their end."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot_provisioners import Instance, State
from envboot_provisioners.clouds import refuse_end
from envboot_provisioners.gcp.clients import RETRY, TIMEOUT
from envboot_provisioners.gcp.errors import FAULTS, is_missing, raise_failed, tell
from envboot_provisioners.gcp.options import LABEL, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud import compute_v1

    from envboot.errors import ProvisionError
    from envboot_provisioners.gcp.clients import GcpClients

ALIVE = ("PROVISIONING", "STAGING", "RUNNING", "REPAIRING", "PENDING")
ENDING = ("STOPPING", "DEPROVISIONING")
CHUNK = 20
"""Launches of one question: a filter is at most some thousand characters long."""
AT_ONCE = 16
"""Calls that are made at the same time where each is about one instance."""


def find_labelled(clients: GcpClients, launches: Sequence[str]) -> dict[str, list[Any]]:
    """Return what Compute Engine says of the instances of launches, by launch.

    Those that are about to vanish are among them.
    """
    found: dict[str, list[compute_v1.Instance]] = {}
    for start in range(0, len(launches), CHUNK):
        words = [f'(labels.{LABEL} = "{name}")' for name in launches[start : start + CHUNK]]
        request = {"project": clients.project, "filter": " OR ".join(words)}
        pages = clients.instances.aggregated_list(request=request, retry=RETRY, timeout=TIMEOUT)
        for _, listed in pages:
            for item in listed.instances:
                found.setdefault(item.labels[LABEL], []).append(item)
    return found


def to_instance(found: compute_v1.Instance, *, launch: str, project: str) -> Instance:
    """Return our record of an instance: its id is its name, and what the machine knows of itself.

    A host's name may be given again, an id never.
    """
    inside, outside = _find_addresses(found)
    details = {
        "host": found.name,
        "type": found.machine_type.rpartition("/")[2],
        "zone": found.zone.rpartition("/")[2],
        "market": "spot" if found.scheduling.provisioning_model == "SPOT" else "standard",
        "address": outside or inside,
        "project": project,
    }
    return Instance(
        name=str(found.id),
        launch=launch,
        details={name: value for name, value in details.items() if value},
        address=inside or None,
        public_address=outside or None,
    )


def _find_addresses(found: compute_v1.Instance) -> tuple[str, str]:
    """Return where an instance is reached in its network, and outside; empty where it is not."""
    interface = next(iter(found.network_interfaces), None)
    if interface is None:
        return "", ""
    access = next(iter(interface.access_configs), None)
    return interface.network_i_p, access.nat_i_p if access else ""


def to_state(found: compute_v1.Instance) -> State:
    """Return how an instance is, in Compute Engine's own words."""
    return State(
        alive=found.status in ALIVE,
        word=found.status,
        reason=found.status_message or None,
        public_address=_find_addresses(found)[1] or None,
    )


def find_preempted(clients: GcpClients, zone: str, name: str) -> bool:
    """Whether Compute Engine took an instance back; it says so in an operation, for some days."""
    filtered = f'(targetId = "{name}") AND (operationType = "compute.instances.preempted")'
    request = {"project": clients.project, "zone": zone, "filter": filtered}
    try:
        return any(clients.operations.list(request=request, retry=None, timeout=TIMEOUT))
    except FAULTS:
        return False


def read_console(clients: GcpClients, zone: str, host: str) -> str:
    """Return what an instance wrote on its first serial port: at most the last megabyte."""
    request = {"project": clients.project, "zone": zone, "instance": host, "port": 1}
    answer = clients.instances.get_serial_port_output(request=request, retry=RETRY, timeout=TIMEOUT)
    return str(answer.contents)


@dataclass(frozen=True, kw_only=True, slots=True)
class GcpHost:
    """An instance to end: its host's name in a zone, and its id."""

    name: str
    host: str
    zone: str


def end(clients: GcpClients, targets: Iterable[GcpHost]) -> dict[GcpHost, str]:
    """End instances, their disks with them; returns why some could not be.

    One that is not there any more has ended. Compute Engine takes some time and goes on by itself.
    """
    wanted = list(targets)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(lambda target: _end(clients, target), wanted))
    return {target: why for target, why in zip(wanted, told, strict=True) if why}


def _end(clients: GcpClients, target: GcpHost) -> str | None:
    request = {
        "project": clients.project,
        "zone": target.zone,
        "instance": target.host,
        # Of this call: a later one must not be answered with what became of this.
        "request_id": str(uuid.uuid4()),
    }
    try:
        raise_failed(clients.instances.delete_unary(request=request, retry=RETRY, timeout=TIMEOUT))
    except FAULTS as error:
        return None if is_missing(error) else tell(error)
    return None


def to_host(found: compute_v1.Instance) -> GcpHost:
    """Return how an instance is ended."""
    zone = found.zone.rpartition("/")[2]
    return GcpHost(name=str(found.id), host=found.name, zone=zone)


def refuse_hosts(project: str, failed: dict[GcpHost, str], many: int) -> ProvisionError:
    """Return the error for instances that could not be ended, of `many`; it names each of them."""
    by_zone: dict[str, list[str]] = {}
    for host in failed:
        by_zone.setdefault(host.zone, []).append(host.host)
    commands = [
        f"`gcloud compute instances delete {' '.join(hosts)} --zone {zone} --project {project}`"
        for zone, hosts in by_zone.items()
    ]
    return refuse_end(
        failed,
        many,
        platform=PLATFORM,
        name=lambda host: f"`{host.host}` in `{host.zone}`",
        hint="; ".join(commands),
    )
