"""The right to publish a base: read before anything else runs, gone before the command does.

User-data can be read by whatever runs on a machine. What may write an archive, which all later
machines take, therefore stands in an object of its own, and not there.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Dict

from . import fetch, wire
from .boot import read_documents
from .host import Host, write_json
from .wire import AgentError

# Seconds for which a bucket out of reach is asked again before the command is given up.
PATIENCE = 300


def read(host: Host) -> bool:
    """Return whether this machine may publish; a permit is kept for root alone.

    It is read before the installation, because whichever machine of the launch starts its command
    first removes it.
    """
    if "permit" in host.grants:
        try:
            document = wire.parse(fetch.read(host.grants["permit"]["get"]))
        except AgentError as error:
            host.journal("stage", "permit: %s" % error, stage="permit")
            return False
        document["launch"] = host.grants["launch"]
        write_json(host.state + "/permit.json", document, 0o600)
    # Where there is an archive that nobody has signed, ours could only be refused.
    return not ("signers" in host.grants and host.errors)


def find_kept(host: Host) -> str:
    """Return where the base is kept that is still to be published."""
    return "%s/publish-%s" % (host.opt, wire.base_digest(host.manifest)[7:])


def keep(host: Host, env: str) -> None:
    """Keep hard links to the fresh base: the layer and the user's programs come after it."""
    kept = find_kept(host)
    subprocess.run(["cp", "-al", env, env + ".kept"], check=True)
    if os.path.exists(kept):
        # Of an earlier boot, which may not have reached the disk: publish only what is fresh.
        os.rename(kept, env + ".old")
    os.rename(env + ".kept", kept)


def find(host: Host) -> Dict[str, Any]:
    """Return how this machine may put its archive and index.

    Raises:
        AgentError: it may not.
    """
    permit: Dict[str, Any] = host.read_json("permit")
    if permit.get("launch") == host.grants["launch"]:
        return permit
    archive, index = (host.grants.get(name, {}) for name in ("archive", "index"))
    if "put" not in archive:
        raise AgentError("this launch may not publish")
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
        from .main import publish

        publish(host)


def remove(host: Host) -> None:
    """Remove the permit from the bucket, once a launch; the next boot needs no bucket for that.

    Raises:
        AgentError: the bucket refuses, or did not answer for five minutes.
    """
    launch, end = host.grants["launch"], time.monotonic() + PATIENCE
    # Publisher and command may come here at the same moment.
    with host.locked("permit"):
        while host.read_json("permit-removed").get("launch") != launch:
            try:
                fetch.send("DELETE", host.grants["permit"]["delete"], None, {})
            except AgentError as error:
                if error.reason == "unreachable" and time.monotonic() < end:
                    continue
                if error.reason != "missing":
                    text = "the right to publish is still in the bucket: %s" % error
                    raise AgentError(text) from error
            write_json(host.state + "/permit-removed.json", {"launch": launch})
