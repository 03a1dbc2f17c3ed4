"""All that units do, in one process: for machines without a service manager, and `local` ones."""

from __future__ import annotations

import os

from . import wire
from .boot import boot
from .host import Host
from .main import load, publish


def main(host: Host) -> int:
    """Boot, then run the command; publish, and follow what is wanted, while it runs."""
    code, ours = boot(host), os.getpid()
    if code == wire.FAILED:
        return code
    publishing = os.fork()
    if not publishing:
        os._exit(publish(host))
    if "wanted" in host.grants and not os.fork():
        os._exit(load(host, "sync").main(host, ours))
    try:
        return int(load(host, "run").main(host))
    finally:
        os.waitpid(publishing, 0)
