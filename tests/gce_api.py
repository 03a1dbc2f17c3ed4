"""A Compute Engine on loopback: requests obey the published types, answers are as documented.

Bodies and queries are read by the types of google-cloud-compute, which are generated from the
API's own description: an unknown member, or one of another type, is refused. `used` are the
permissions that the requests would have needed (Compute Engine, "IAM permissions").
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any

from google.cloud import compute_v1

from tests.gce_shapes import (
    IMAGES,
    LABEL,
    LIMIT,
    NAME,
    TYPES,
    RefusedError,
    check_query,
    image_of,
    match,
    parse,
    route,
    snake,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from pathlib import Path

PROJECT, REGION = "team-project-42", "europe-west4"
ZONES = tuple(f"{REGION}-{letter}" for letter in "abc")
ACCOUNT = f"machine@{PROJECT}.iam.gserviceaccount.com"


@dataclass(kw_only=True, slots=True)
class Fault:
    """What befalls the next `times` calls of an action; with `lost` it is done, and not told."""

    action: str
    status: int
    reason: str
    message: str
    times: int
    lost: bool


@dataclass(kw_only=True, slots=True)
class Gce:
    """What there is, what was asked, and what goes wrong.

    `room` is how many instances a zone has room for, by market; `slow` how many looks an
    operation takes; `linger` seconds for which an ended instance is still shown. `tokens` are
    those that it takes.
    """

    endpoint: str
    key: Path
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    consoles: dict[str, str] = field(default_factory=dict)
    room: dict[tuple[str, str], int] = field(default_factory=dict)
    quota: set[str] = field(default_factory=set)
    protected: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    tokens: Container[str] = ("a-token",)
    slow: int = 0
    linger: float = 0.0
    _ids: Iterator[int] = field(default_factory=lambda: count(4_000_000_000_000_000_001))
    _by_request: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def strike(
        self,
        action: str,
        status: int = 503,
        reason: str = "backendError",
        message: str = "Try later",
        *,
        times: int = 1,
        lost: bool = False,
    ) -> None:
        """Let the next calls of an action fail, or their answers be lost."""
        fault = Fault(
            action=action, status=status, reason=reason, message=message, times=times, lost=lost
        )
        self.faults.append(fault)

    def actions(self, name: str) -> list[dict[str, Any]]:
        """Return the bodies of all calls of an action."""
        return [body for action, _, body in self.calls if action == name]

    def alive(self) -> list[dict[str, Any]]:
        """Return the instances that nobody has ended."""
        return [item for item in self.instances.values() if item["status"] != "STOPPING"]

    def environment(self) -> dict[str, str]:
        """Return the variables that lead Google's clients here."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{self.endpoint}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": f"{self.endpoint}/",
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "CLOUDSDK_COMPUTE_REGION": REGION,
            "CLOUDSDK_CONFIG": str(self.key.parent),
        }

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: str
    ) -> dict[str, Any]:
        """Answer one request.

        Raises:
            RefusedError: as the API would.
            ConnectionAbortedError: the answer is lost.
        """
        given, (_, _, action, request_type, needed) = route(method, path)
        check_query(request_type, query)
        document = json.loads(body) if body else {}
        with self._lock:
            self.calls.append((action, {**given, **query}, document))
            self._tidy()
            for permission in needed:
                self._want(permission)
            fault = next((f for f in self.faults if f.action == action and f.times), None)
            if fault:
                fault.times -= 1
                if not fault.lost:
                    raise RefusedError(fault.status, fault.reason, fault.message)
            call: Callable[..., dict[str, Any]] = getattr(self, snake(action))
            made = call(given, {name: values[0] for name, values in query.items()}, document)
            if fault:
                raise ConnectionAbortedError
        return made

    def _want(self, permission: str) -> None:
        self.used.add(permission)
        if permission in self.denied:
            text = f"Required '{permission}' permission for 'projects/{PROJECT}'"
            raise RefusedError(403, "forbidden", text)

    def _tidy(self) -> None:
        now = time.monotonic()
        for name, item in list(self.instances.items()):
            if item["status"] == "STOPPING" and now - item.get("_ended", now) > self.linger:
                del self.instances[name]

    def _zones_list(self, *_: Any) -> dict[str, Any]:
        others = [f"us-east1-{letter}" for letter in "bc"]
        return {"items": [{"name": name, "status": "UP"} for name in (*ZONES, *others)]}

    def _machine_types_aggregated_list(self, given: Any, query: Any, _: Any) -> dict[str, Any]:
        kind = match(r'name = "([^"]+)"', query["filter"])[1]
        offered = ZONES if kind != "g2-standard-4" else ZONES[:1]
        items: dict[str, Any] = {f"zones/{zone}": {} for zone in ZONES}
        if kind in TYPES:
            items |= {f"zones/{zone}": {"machineTypes": [type_of(kind)]} for zone in offered}
        return {"items": items}

    def _machine_types_list(self, *_: Any) -> dict[str, Any]:
        return {"items": [type_of(kind) for kind in TYPES]}

    def _machine_types_get(self, given: Any, *_: Any) -> dict[str, Any]:
        return type_of(given["name"])

    def _regions_get(self, *_: Any) -> dict[str, Any]:
        quotas = [{"metric": "CPUS", "limit": 24, "usage": 4}]
        return {"name": REGION, "quotas": quotas}

    def _images_get_from_family(self, given: Any, *_: Any) -> dict[str, Any]:
        if given["family"] not in IMAGES.get(given["project"], ()):
            raise RefusedError(404, "notFound", f"The resource {given['family']!r} was not found")
        return image_of(f"{given['family']}-v20261101")

    def _images_get(self, given: Any, *_: Any) -> dict[str, Any]:
        if given["name"] == "missing":
            raise RefusedError(404, "notFound", "The resource 'missing' was not found")
        return image_of(given["name"])

    def _networks_get(self, given: Any, *_: Any) -> dict[str, Any]:
        if given["name"] not in ("default", "inside"):
            raise RefusedError(404, "notFound", f"The resource {given['name']!r} was not found")
        return {"name": given["name"]}

    _subnetworks_get = _networks_get

    def _instances_bulk_insert(self, given: Any, query: Any, body: Any) -> dict[str, Any]:
        if query["requestId"] in self._by_request:
            return self._by_request[query["requestId"]]
        wanted = parse(compute_v1.BulkInsertInstanceResource, body)
        properties = wanted["instanceProperties"]
        self._check(properties)
        names, zone = sorted(wanted["perInstanceProperties"]), given["zone"]
        if len(names) != int(wanted["count"]) or not all(map(NAME.fullmatch, names)):
            raise RefusedError(400, "invalid", f"Invalid names of instances: {names}")
        taken = [name for name in names if f"{zone}/{name}" in self.instances]
        if taken:
            raise RefusedError(409, "alreadyExists", f"The resource {taken[0]!r} already exists")
        market = properties["scheduling"]["provisioningModel"]
        room = self.room.get((zone, market), len(names))
        many = min(room, len(names))
        error = None
        if market in self.quota:
            error = "QUOTA_EXCEEDED", f"Quota 'CPUS' exceeded. Limit: 24.0 in region {REGION}."
        elif many < int(wanted.get("minCount", wanted["count"])) or not many:
            text = f"The zone '{zone}' does not have enough resources available"
            error = "ZONE_RESOURCE_POOL_EXHAUSTED", text
        else:
            for name in names[:many]:
                self._make(zone, name, properties)
            if (zone, market) in self.room:
                self.room[zone, market] -= many
        made = self._operate(f"/zones/{zone}", error)
        self._by_request[query["requestId"]] = made
        return made

    def _check(self, properties: dict[str, Any]) -> None:
        """Check what the types cannot tell, and which permissions are needed for it."""
        initial = [disk["initializeParams"] for disk in properties["disks"]]
        labels = [properties["labels"], *(disk.get("labels", {}) for disk in initial)]
        for key, value in [pair for each in labels for pair in each.items()]:
            if not LABEL.fullmatch(f"{key}={value}"):
                raise RefusedError(400, "invalid", f"Invalid label {key}={value}")
        if "/" in properties["machineType"] or any("/" in disk["diskType"] for disk in initial):
            raise RefusedError(400, "invalid", "Expected names of types, not paths")
        for item in properties["metadata"]["items"]:
            if len(item["value"].encode()) > LIMIT:
                raise RefusedError(400, "invalid", f"Metadata value of {item['key']} is too long")
        for account in properties.get("serviceAccounts", ()):
            self._want("compute.instances.setServiceAccount")
            self._want("iam.serviceAccounts.actAs")
            if "@" not in account["email"] and account["email"] != "default":
                raise RefusedError(400, "invalid", "Invalid service account")
        for needed, wanted in (
            ("compute.instances.setTags", "tags" in properties),
            (
                "compute.subnetworks.useExternalIp",
                any("accessConfigs" in each for each in properties["networkInterfaces"]),
            ),
        ):
            if wanted:
                self._want(needed)

    def _make(self, zone: str, name: str, properties: dict[str, Any]) -> None:
        start = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{zone}"
        number = next(self._ids)
        place = f"{len(self.instances) // 250}.{len(self.instances) % 250 + 2}"
        interfaces = [
            {
                **each,
                "networkIP": f"10.0.{place}",
                "accessConfigs": [
                    {**access, "natIP": f"203.0.{place}"}
                    for access in each.get("accessConfigs", ())
                ],
            }
            for each in properties["networkInterfaces"]
        ]
        item = {
            **properties,
            "id": str(number),
            "name": name,
            "zone": start,
            "machineType": f"{start}/machineTypes/{properties['machineType']}",
            "networkInterfaces": interfaces,
            "status": "PROVISIONING" if self.slow else "RUNNING",
        }
        item["disks"] = [{"boot": True, "autoDelete": True}]
        self.instances[f"{zone}/{name}"] = item

    def _operate(self, scope: str, error: tuple[str, str] | None = None) -> dict[str, Any]:
        name = f"operation-{len(self.operations)}"
        made: dict[str, Any] = {"name": name, "status": "RUNNING", "kind": "compute#operation"}
        self.operations[name] = {**made, "_looks": self.slow, "_error": error, "_scope": scope}
        return made

    def _operation(self, given: Any, *_: Any) -> dict[str, Any]:
        found = self.operations[given["name"]]
        if found["_looks"]:
            found["_looks"] -= 1
        else:
            found["status"] = "DONE"
            for item in self.instances.values():
                if item["status"] == "PROVISIONING":
                    item["status"] = "RUNNING"
            if found["_error"]:
                code, message = found["_error"]
                found["error"] = {"errors": [{"code": code, "message": message}]}
        return {name: value for name, value in found.items() if name[0] != "_"}

    _zone_operations_get = _global_operations_get = _operation

    def _zone_operations_list(self, given: Any, query: Any, _: Any) -> dict[str, Any]:
        kind = "compute.instances.preempted"
        found = match(rf'\(targetId = "(\d+)"\) AND \(operationType = "{kind}"\)', query["filter"])
        gone = [each for each in self.operations.values() if each.get("targetId") == found[1]]
        return {"items": [{"name": each["name"], "operationType": kind} for each in gone]}

    def preempt(self, name: str) -> None:
        """Take an instance back."""
        for key, item in list(self.instances.items()):
            if item["id"] == name:
                del self.instances[key]
        self.operations[f"preempted-{name}"] = {"name": f"preempted-{name}", "targetId": name}

    def _instances_aggregated_list(self, given: Any, query: Any, _: Any) -> dict[str, Any]:
        wanted = set()
        for term in query["filter"].split(" OR "):
            wanted.add(match(r'\(labels\.envboot-launch = "([^"]+)"\)', term)[1])
        items: dict[str, Any] = {f"zones/{zone}": {} for zone in ZONES}
        for key, item in self.instances.items():
            # Whoever asks in another project sees what is there: nothing.
            if given["project"] == PROJECT and item["labels"].get("envboot-launch") in wanted:
                shown = {name: value for name, value in item.items() if name[0] != "_"}
                items[f"zones/{key.partition('/')[0]}"].setdefault("instances", []).append(shown)
        return {"items": items}

    def _find(self, given: dict[str, str]) -> dict[str, Any]:
        key = f"{given['zone']}/{given['name']}"
        if key not in self.instances:
            raise RefusedError(404, "notFound", f"The resource {given['name']!r} was not found")
        return self.instances[key]

    def _instances_delete(self, given: Any, *_: Any) -> dict[str, Any]:
        item = self._find(given)
        if item["name"] in self.protected:
            text = "Resource cannot be deleted if it's protected against deletion"
            raise RefusedError(412, "resourceInUseByAnotherResource", text)
        item.update(status="STOPPING", _ended=time.monotonic())
        return self._operate(f"/zones/{given['zone']}")

    def _instances_get_serial_port_output(self, given: Any, *_: Any) -> dict[str, Any]:
        return {"contents": self.consoles.get(self._find(given)["id"], "")}

    def _instance_templates_get(self, given: Any, *_: Any) -> dict[str, Any]:
        if given["name"] not in self.templates:
            raise RefusedError(404, "notFound", f"The resource {given['name']!r} was not found")
        return self.templates[given["name"]]

    def _instance_templates_insert(self, given: Any, query: Any, body: Any) -> dict[str, Any]:
        wanted = parse(compute_v1.InstanceTemplate, body)
        self._check(wanted["properties"])
        if wanted["name"] in self.templates or not NAME.fullmatch(wanted["name"]):
            raise RefusedError(
                409, "alreadyExists", f"The resource {wanted['name']!r} already exists"
            )
        self.templates[wanted["name"]] = {**wanted, "id": str(next(self._ids))}
        return self._operate("/global")
