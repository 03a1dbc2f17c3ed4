"""A network of machines that reach each other, the client and nothing else, as in a VPC."""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
from itertools import count
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING

from tests.boot.network import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBNET = "172.31.0.0/16"
"""The default VPC of every account, in moto as in EC2; its subnets in the zones are inside."""
LEAVE_SECONDS = 30


class Vpc:
    """A namespace in which the client, the bucket and the API are, and a bridge to machines.

    The client has the subnet's first address, which is the gateway's: beyond it there is nothing,
    and it says so at once instead of letting connections wait.
    """

    def __init__(self, subnet: str = SUBNET) -> None:
        self._network = ipaddress.ip_network(subnet)
        self.gateway = str(self._network[1])
        self.namespace = Namespace()
        self._ports = count()
        self._addresses: set[str] = set()
        self._left = Condition()

        def make() -> None:
            # Answers "network unreachable"; there is no second link to forward anything to.
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            _ip("link", "add", "bridge", "type", "bridge")
            _ip("address", "add", self._with_mask(self.gateway), "dev", "bridge")
            _ip("link", "set", "bridge", "up")

        self.namespace.run(make)

    @contextlib.contextmanager
    def joined(self, machine: Namespace, address: str) -> Iterator[None]:
        """Give a machine's namespace the link `eth0` with `address`, until the end.

        moto hands out an address again as soon as the machine that had it is terminated: whoever
        comes next waits until that one has left.
        """
        assert ipaddress.ip_address(address) in self._network, f"{address} is not in {self}"
        with self._left:
            free = self._left.wait_for(lambda: address not in self._addresses, LEAVE_SECONDS)
            assert free, f"{address} is still taken in {self}"
            self._addresses.add(address)
        port = f"port{next(self._ports)}"
        peer = ["peer", "name", "eth0", "address", find_mac(address), "netns", machine.path]

        def configure() -> None:
            _ip("address", "add", self._with_mask(address), "dev", "eth0")
            _ip("link", "set", "eth0", "up")
            _ip("route", "add", "default", "via", self.gateway)

        try:
            self.namespace.run(
                lambda: _ip("link", "add", port, "master", "bridge", "up", "type", "veth", *peer)
            )
            machine.run(configure)
            yield
        finally:
            # Its end in the machine goes with it. The kernel ends a namespace later than that.
            self.namespace.run(lambda: _ip("link", "delete", port))
            with self._left:
                self._addresses.discard(address)
                self._left.notify_all()

    def close(self) -> None:
        """Let go of it; it ends when no process is in it any more."""
        self.namespace.close()

    def __str__(self) -> str:
        return str(self._network)

    def _with_mask(self, address: str) -> str:
        return f"{address}/{self._network.prefixlen}"


def find_mac(address: str) -> str:
    """Return the hardware address of who has `address`: whoever has it next has it too."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *ipaddress.ip_address(address).packed))


@contextlib.contextmanager
def inside_vpc() -> Iterator[Vpc]:
    """Make a VPC and be in it, with this thread and all that it starts, until the end."""
    vpc = Vpc()
    try:
        with vpc.namespace.entered():
            yield vpc
    finally:
        vpc.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
