"""Instance templates, which never change: one a content, made where there is none of it yet."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.errors import ProvisionError
from envboot_provisioners.gcp.clients import RETRY, TIMEOUT
from envboot_provisioners.gcp.errors import (
    FAULTS,
    OperationError,
    explain,
    is_missing,
    raise_failed,
)
from envboot_provisioners.gcp.request import make_request_id

if TYPE_CHECKING:
    from envboot_provisioners.gcp.clients import GcpClients

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,52}[a-z0-9])?")
LONGEST = 120.0
"""Seconds that making a template may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceTemplate:
    """An instance template: its id, its path, and whether it was made just now."""

    id: str
    name: str
    path: str
    made: bool


def check_name(name: str) -> None:
    """Refuse what, with a digest behind it, is no name of a template (RFC 1035).

    Raises:
        ProvisionError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ProvisionError(
            f"Expected a template's name of 1 to 54 small letters, digits and `-`, found `{name}`",
            hint="It begins with a letter; eight digits of what is in it come behind it",
        )


def put_template(clients: GcpClients, name: str, properties: dict[str, Any]) -> InstanceTemplate:
    """Have a template with these properties; its name ends with their digest.

    Raises:
        ProvisionError: Google refuses.
    """
    digest = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()
    full = f"{name}-{digest[:8]}"
    path = f"projects/{clients.project}/global/instanceTemplates/{full}"
    try:
        known = _find(clients, full)
        if known is None:
            _make(clients, full, digest, properties)
        found = known or _find(clients, full)
    except FAULTS as error:
        message = f"Failed to write instance template `{full}`"
        raise explain(error, message, clients.credentials) from error
    return InstanceTemplate(id=found or "", name=full, path=path, made=known is None)


def _find(clients: GcpClients, name: str) -> str | None:
    """Return a template's id."""
    request = {"project": clients.project, "instance_template": name}
    try:
        return str(clients.templates.get(request=request, retry=RETRY, timeout=TIMEOUT).id)
    except FAULTS as error:
        if is_missing(error):
            return None
        raise


def _make(clients: GcpClients, name: str, digest: str, properties: dict[str, Any]) -> None:
    body = {"name": name, "description": f"envboot {digest}", "properties": properties}
    request = {
        "project": clients.project,
        "request_id": make_request_id("template", clients.project, name, time.time_ns()),
        "instance_template_resource": body,
    }
    made = clients.templates.insert_unary(request=request, retry=RETRY, timeout=TIMEOUT)
    asked = {"project": clients.project, "operation": made.name}
    deadline = time.monotonic() + LONGEST
    while made.status.name != "DONE":
        if time.monotonic() > deadline:
            raise OperationError("TIMEOUT", f"It still runs after {LONGEST:g} s")
        time.sleep(0.5)
        made = clients.global_operations.get(request=asked, retry=RETRY, timeout=TIMEOUT)
    raise_failed(made)
