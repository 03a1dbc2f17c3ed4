"""The agent's commands: what units start and what people type."""

from __future__ import annotations

import importlib
import io
import os
import tempfile
import zipfile
from typing import Any, List

from . import fetch
from .boot import boot, read_documents
from .host import Host


def main(argv: List[str]) -> int:
    """Run one command and return its exit code."""
    host, word = Host(os.environ.get("ENVBOOT_ROOT", "")), "".join(argv[:1])
    if word == "boot":
        return boot(host)
    if word == "publish":
        return publish(host)
    if word in ("results", "run", "local", "life", "watch", "sync"):
        return int(load(host, word).main(host))
    return int(load(host, "explain").explain(host, word, argv))


def load(host: Host, name: str) -> Any:
    """Import a module that user-data has no room for: the whole agent is in the bucket."""
    folder = os.path.dirname(__file__)
    if not os.path.exists(folder + "/" + name + ".py"):
        host.read_grants()
        grant, lib = host.grants["agent"], os.path.dirname(folder)
        agent = zipfile.ZipFile(io.BytesIO(fetch.read(grant["get"], sha256=grant["sha256"])))
        # Several units may come for it at once: no file may be seen half-written.
        with tempfile.TemporaryDirectory(dir=lib) as new:
            agent.extractall(new)
            for path in agent.namelist():
                os.replace(new + "/" + path, lib + "/" + path)
    return importlib.import_module("agent." + name)


def publish(host: Host) -> int:
    """Publish what this machine had to install, and fetch what people may ask for later."""
    read_documents(host)
    return int(load(host, "publish").publish(host)) if host.grants else 0
