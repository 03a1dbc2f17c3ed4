"""QEMU's programs: are they there, what is an image, do guests run on KVM."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.errors import ProvisionError
from envboot.process import run
from envboot_provisioners.qemu.image import kernel_beside

if TYPE_CHECKING:
    from collections.abc import Mapping

QEMU = "qemu-system-x86_64"
FORMATS = ("qcow2", "raw")


def check_programs(environment: Mapping[str, str]) -> None:
    """Refuse where QEMU is not installed.

    Raises:
        ProvisionError: with the packages that have it.
    """
    wanted = {QEMU: "qemu-system-x86", "qemu-img": "qemu-utils"}
    missing = [name for name in wanted if not shutil.which(name, path=environment.get("PATH"))]
    if missing:
        raise ProvisionError(
            "Cannot start a virtual machine: QEMU is not installed",
            causes=tuple(f"`{name}` was not found" for name in missing),
            hint=f"Install it with `apt install {' '.join(wanted[name] for name in missing)}`",
        )


def find_format(image: Path, environment: Mapping[str, str]) -> str:
    """Return `qcow2` or `raw`.

    Raises:
        ProvisionError: it is neither; QEMU takes any file for raw, so a raw one must have a
            boot sector, or a kernel beside it.
    """
    command = ["qemu-img", "info", "--output=json", str(image)]
    done = run(command, environment=environment)
    if done.code:
        raise ProvisionError(f"Failed to read image `{image}`", causes=done.last_errors(1))
    found = str(json.loads(done.stdout)["format"])
    if found == "raw" and not kernel_beside(image):
        with image.open("rb") as file:
            found = "raw" if file.read(512)[510:] == b"\x55\xaa" else "unknown"
    if found not in FORMATS:
        wanted = " or ".join(f"`{name}`" for name in FORMATS)
        raise ProvisionError(
            f"Expected image `{image}` as {wanted}, found `{found}`",
            hint="Turn it into one with `qemu-img convert -O qcow2`",
        )
    return found


def make_overlay(image: Path, kind: str, overlay: Path, environment: Mapping[str, str]) -> None:
    """Make a disk that starts as `image` and keeps every change to itself."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(image)]
    done = run([*command, str(overlay)], environment=environment)
    if done.code:
        raise ProvisionError(
            f"Failed to make a disk over image `{image}`", causes=done.last_errors(1)
        )


def can_accelerate(environment: Mapping[str, str], seconds: float = 5) -> bool:
    """Whether guests really run on KVM: one is run, whose boot sector ends QEMU with 33.

    A device that exists proves little: nested or restricted KVM makes one that aborts or hangs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    # mov al, 0x10; out 0xf4, al; hlt: the exit device ends QEMU with 0x10 * 2 + 1.
    sector = bytes([0xB0, 0x10, 0xE6, 0xF4, 0xF4]).ljust(510, b"\0") + b"\x55\xaa"
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "probe.raw"
        disk.write_bytes(sector)
        command = [QEMU, "-nodefaults", "-display", "none", "-no-reboot", "-m", "32"]
        command += ["-accel", "kvm", "-cpu", "host", "-drive", f"file={disk},format=raw,if=ide"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        try:
            done = run(command, environment=environment, timeout=seconds)
        except TimeoutError:
            return False
    return done.code == 33
