"""What stands in the way of a launch on QEMU, found by trying; only a probe of KVM is started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from envboot.doctor.check import Check, to_check
from envboot.doctor.state import check_state
from envboot.errors import ProvisionError
from envboot_provisioners.qemu.image import check_tools, find_debian_image
from envboot_provisioners.qemu.programs import can_accelerate, check_programs, find_format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.session import Session
    from envboot_provisioners import Options

USUAL = 3 * 10**9
"""Bytes that an instance with an environment of usual size writes over its image."""


class Images(Protocol):
    """What finds the image of a launch."""

    def check(self, options: Options, *, by_role: bool = False) -> str:
        """Refuse what could never start."""

    def find_image(self, options: Options) -> Path:
        """Return the image that the options name."""


def check_qemu(
    provisioner: Images, options: Options, session: Session, *, count: int = 1
) -> Iterator[Check]:
    """Check everything that a launch with these options needs of this machine, in its order."""
    try:
        check_programs(session.environment)
    except ProvisionError as error:
        yield to_check("qemu programs", error)
    else:
        yield Check(name="qemu programs", status="ok", detail="QEMU is installed")
        yield _check_acceleration(session)
        yield _check_image(provisioner, options, session)
    yield check_state("qemu disk", session.state, each=USUAL, count=count)


def _check_acceleration(session: Session) -> Check:
    name = "qemu kvm"
    if can_accelerate(session.environment):
        return Check(name=name, status="ok", detail="Guests run on KVM")
    if not os.path.exists("/dev/kvm"):  # noqa: PTH110
        hint = "Turn virtualisation on in the firmware; in a virtual machine, nested virtualisation"
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        hint = "Let this user open `/dev/kvm`: `sudo usermod -aG kvm $USER`, then sign in again"
    else:
        hint = "`/dev/kvm` is here, and no guest runs on it: its host may restrict it"
    detail = "Guests are emulated without KVM, which takes several times as long"
    return Check(name=name, status="warning", detail=detail, hint=hint)


def _check_image(provisioner: Images, options: Options, session: Session) -> Check:
    name = "qemu image"
    try:
        if options.get("make-image") != "true":
            provisioner.check(options)
            image = provisioner.find_image(options)
            kind = find_format(image, session.environment)
            return Check(name=name, status="ok", detail=f"`{image}` ({kind})")
        if made := find_debian_image(session.state / "images"):
            return Check(name=name, status="ok", detail=f"`{made}`, made before")
        check_tools(session.environment)
    except ProvisionError as error:
        return to_check(name, error)
    return Check(name=name, status="ok", detail="A Debian 12 image can be made")
