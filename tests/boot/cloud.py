"""EC2 with real machines behind it: moto answers the API, and what it launches is booted.

moto keeps instances as words. Here each of them becomes a Debian that takes its user-data, as
moto holds it, from a metadata service of its own, and is killed when the API terminates it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

import boto3

from envboot_provisioners.qemu import compose_command
from envboot_provisioners.qemu.image import kernel_beside
from envboot_provisioners.qemu.programs import can_accelerate, find_format, make_overlay
from tests.boot.machine import BOOTED, BootError, Spec, boot
from tests.boot.metadata import ADDRESS, MAC, MetadataServer
from tests.ec2 import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mypy_boto3_ec2 import EC2Client

    from tests.boot.vpc import Vpc
    from tests.ec2 import Ec2

LONGEST = 600
"""Seconds after which a machine that is not terminated has hung."""


class Booter(Protocol):
    """Boots one machine and stays until it has ended, or `ended` is set."""

    def __call__(
        self, instance: str, user_data: bytes, *, role: str | None, address: str, ended: Event
    ) -> None:
        """`role` is the name of the instance's role, `address` its private one."""


@dataclass(kw_only=True, slots=True)
class Cloud:
    """The API's instances, and the threads in which they run.

    Whoever has `starting` sees no instance in the making: moto gives it its role last. `changed`
    is set when there may be something new: to ask moto costs it 20 ms of CPU.
    """

    client: EC2Client
    changed: Event
    booter: Booter
    starting: AbstractContextManager[object]
    failures: list[BaseException] = field(default_factory=list)
    user_data: dict[str, bytes] = field(default_factory=dict)
    _threads: dict[str, tuple[Thread, Event]] = field(default_factory=dict)

    def follow(self, stop: Event) -> None:
        """Boot what is new and end what is terminated, until `stop`."""
        while not stop.is_set():
            if not self.changed.wait(0.3):
                continue
            self.changed.clear()
            for instance, description in self.describe().items():
                state = description["State"]["Name"]
                if instance not in self._threads and state in ("pending", "running"):
                    self._boot(instance, description)
                elif instance in self._threads and state in ("shutting-down", "terminated"):
                    self._threads[instance][1].set()

    def describe(self) -> dict[str, Any]:
        """Return every instance as the API describes it."""
        pages = self.client.get_paginator("describe_instances").paginate()
        with self.starting:
            return {
                instance["InstanceId"]: instance | {"ReservationId": reservation["ReservationId"]}
                for page in pages
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
            }

    def states(self) -> dict[str, str]:
        """Return every instance's state, as the API knows it."""
        return {name: found["State"]["Name"] for name, found in self.describe().items()}

    def _boot(self, instance: str, description: dict[str, Any]) -> None:
        answer = self.client.describe_instance_attribute(InstanceId=instance, Attribute="userData")
        user_data = base64.b64decode(answer["UserData"]["Value"])
        self.user_data[instance] = user_data
        role = self._find_role(description["ReservationId"])
        address = description["PrivateIpAddress"]
        ended = Event()

        def run() -> None:
            try:
                self.booter(instance, user_data, role=role, address=address, ended=ended)
            except BaseException as error:
                self.failures.append(error)

        thread = Thread(target=run, name=instance)
        self._threads[instance] = thread, ended
        thread.start()

    def _find_role(self, reservation: str) -> str | None:
        """Return the name of what all of a call have; moto gives it to the first alone."""
        found = self.describe().values()
        same = [each for each in found if each["ReservationId"] == reservation]
        profiles = [
            each["IamInstanceProfile"]["Arn"] for each in same if "IamInstanceProfile" in each
        ]
        return profiles[0].rpartition("/")[2] if profiles else None

    def close(self) -> None:
        """End every machine."""
        for thread, ended in self._threads.values():
            ended.set()
            thread.join()


@contextlib.contextmanager
def open_cloud(ec2: Ec2, booter: Booter) -> Iterator[Cloud]:
    """Give the API real machines, until the end."""
    client = boto3.client(
        "ec2",
        endpoint_url=ec2.upstream,
        region_name=REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    cloud = Cloud(client=client, changed=ec2.changed, booter=booter, starting=ec2.lock)
    stop = Event()
    thread = Thread(target=cloud.follow, args=(stop,))
    thread.start()
    try:
        yield cloud
    finally:
        stop.set()
        thread.join()
        cloud.close()


def boot_in_nspawn(
    root: Path,
    folder: Path,
    ports: tuple[int, ...],
    credentials: Callable[[], dict[str, str]],
    *,
    vpc: Vpc | None = None,
) -> Booter:
    """Return a booter of containers whose own EC2 datasource finds everything.

    With a `vpc` they have the private addresses that the API tells, and run until it ends them;
    else each is alone, and ends when it has done what there is to do.
    """

    def run(
        instance: str, user_data: bytes, *, role: str | None, address: str, ended: Event
    ) -> None:
        spec = Spec(
            user_data=user_data,
            datasource="ec2",
            instance=instance,
            ports=ports,
            role=(role, credentials()) if role else None,
            network=(vpc, address) if vpc else None,
            stays=vpc is not None,
        )
        with boot(instance, spec, root=root, folder=folder / instance) as machine:
            attend(instance, machine.process, folder / instance / "console.txt", ended)
            if machine.process.poll() is not None:
                machine.wait(1)

    return run


def boot_in_qemu(image: Path, folder: Path, credentials: Callable[[], dict[str, str]]) -> Booter:
    """Return a booter of one virtual machine at a time, which takes itself for EC2's.

    It must run in a network of its own: the guest reaches every port of its loopback at the
    metadata service's address, and IMDSv2, without which there is nothing, on port 80.
    """

    def run(
        instance: str, user_data: bytes, *, role: str | None, address: str, ended: Event
    ) -> None:
        here = BOOTED[instance] = folder / instance
        here.mkdir(parents=True)
        make_overlay(image, find_format(image, os.environ), here / "disk.qcow2", os.environ)
        service = MetadataServer(
            socket.create_server(("127.0.0.1", 80), backlog=64),
            instance=instance,
            user_data=user_data,
            role=(role, credentials()) if role else None,
            require_token=True,
        )
        with contextlib.closing(service), (here / "qemu.log").open("wb") as log:
            process = subprocess.Popen(_qemu(image, here), stdout=log, stderr=log)
            try:
                attend(instance, process, here / "console.txt", ended)
            finally:
                process.kill()
                process.wait()

    return run


def _qemu(image: Path, folder: Path) -> list[str]:
    """Return a command line as `launch qemu` has, but for what EC2's machines say of themselves."""
    command = compose_command(
        folder,
        memory="2048",
        # One: under emulation it is the processors' waiting for each other that may go wrong.
        cpus="1",
        accelerate=can_accelerate(os.environ),
        kernel=kernel_beside(image),
    )
    at = command.index("-smbios")
    del command[at : at + 2]
    # cloud-init's `ds-identify` knows EC2 by vendor, serial and UUID (DataSourceEc2.py).
    uuid = "ec2b3f4a-0000-4000-8000-000000000001"
    product = f"manufacturer=Amazon EC2,product=m6i.large,uuid={uuid},serial={uuid}"
    command += ["-smbios", "type=0,vendor=Amazon EC2", "-smbios", f"type=1,{product}"]
    network = f"user,id=net,net=169.254.0.0/16,host={ADDRESS},dhcpstart=169.254.0.15"
    command[command.index("-netdev") + 1] = network
    device = command.index("-device")
    command[device + 1] += f",mac={MAC}"
    return command


def attend(instance: str, process: subprocess.Popen[bytes], console: Path, ended: Event) -> None:
    """Stay with a machine until it ends or is terminated.

    Raises:
        BootError: it does neither.
    """
    deadline = time.monotonic() + LONGEST
    while process.poll() is None and not ended.wait(0.1):
        if time.monotonic() > deadline:
            text = console.read_text(errors="replace")
            raise BootError(f"{instance} hangs\n{text[-4000:]}")
