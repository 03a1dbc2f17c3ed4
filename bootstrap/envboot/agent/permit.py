"""The right to publish a base: read before anything else runs, gone before the command does.

User-data can be read by whatever runs on a machine. What may write an archive, which all later
machines take, therefore stands in an object of its own, and not there.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict

from . import fetch
from .boot import find_kept, read_documents
from .host import Host, write_json
from .main import publish
from .wire import AgentError

# Seconds for which a bucket out of reach is asked again before the command is given up.
PATIENCE = 300


def read(host: Host) -> None:
    """Keep the launch's permit, for root alone, unless another machine has removed it by now."""
    try:
        document = json.loads(fetch.read(host.grants["permit"]["get"]))
    except AgentError as error:
        host.journal("stage", "permit: %s" % error, stage="permit")
        return
    document["launch"] = host.grants["launch"]
    write_json(host.state + "/permit.json", document, 0o600)


def find(host: Host) -> Dict[str, Any]:
    """Return how this machine may put its archive and index, empty where it may not."""
    permit: Dict[str, Any] = host.read_json("permit")
    if permit.get("launch") == host.grants["launch"]:
        return permit
    archive, index = (host.grants.get(name, {}) for name in ("archive", "index"))
    if "put" not in archive:
        return {}
    found = {"archive": archive["put"], "index": index["put"]}
    return {**found, "max_bytes": archive.get("max_bytes")}


def settle(host: Host) -> None:
    """Take the right to publish from this machine before the user's programs run on it.

    Raises:
        AgentError: see `remove`.
    """
    if "permit" in host.grants:
        remove(host)
        return
    # The role keeps the right, for the user's programs too; what is there they cannot replace.
    read_documents(host)
    if os.path.isdir(find_kept(host)):
        publish(host)


def remove(host: Host) -> None:
    """Remove the permit from the bucket, once a launch; the next boot needs no bucket for that.

    Raises:
        AgentError: the bucket refuses, or did not answer for five minutes.
    """
    launch, end = host.grants["launch"], time.monotonic() + PATIENCE
    while host.read_json("permit-removed") != launch:
        try:
            fetch.send("DELETE", host.grants["permit"]["delete"], None, {})
        except AgentError as error:
            if error.reason == "unreachable" and time.monotonic() < end:
                continue
            if error.reason != "missing":
                text = "the right to publish is still in the bucket: %s" % error
                raise AgentError(text) from error
        write_json(host.state + "/permit-removed.json", launch)
