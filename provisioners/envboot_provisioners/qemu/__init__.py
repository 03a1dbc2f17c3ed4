"""Instances as QEMU virtual machines on this machine, from any cloud image of Linux."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.errors import ProvisionError
from envboot.files import write_whole
from envboot.process import spawn
from envboot_provisioners import Instance, Option, StartRequest, State
from envboot_provisioners.interrupts import defer_interrupts
from envboot_provisioners.own_machine import check_own_place, find_own_place
from envboot_provisioners.qemu.image import ensure_debian_image, kernel_beside
from envboot_provisioners.qemu.programs import (
    QEMU,
    can_accelerate,
    check_programs,
    find_format,
    make_overlay,
)
from envboot_provisioners.qemu.seed import SeedServer
from envboot_provisioners.qemu.smbios import render_system

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envboot.doctor.check import Check
    from envboot.process import Spawned
    from envboot.session import Session
    from envboot.userdata import LaunchPath
    from envboot_provisioners import Options

HOST = "10.0.2.2"
"""What QEMU's user networking calls this machine's loopback."""
MEMORY, CPUS = "2048", "2"
# An emulated kernel writes its first line within three seconds, or, about once in hundreds of
# boots on a loaded machine, never.
SILENCE, TRIES = 60.0, 3


def compose_command(
    folder: Path,
    *,
    memory: str,
    cpus: str,
    accelerate: bool,
    kernel: tuple[Path, Path] | None = None,
) -> list[str]:
    """Return QEMU's command line for one instance. Pure.

    `folder` holds `disk.qcow2` and `smbios.bin` and gets `console.txt` and `qemu.pid`. `memory`
    is in MiB; `kernel` is the kernel and initrd of a disk without a boot loader. Every user of
    this machine can read the words: no secret may be in them.
    """
    command = [QEMU, "-name", folder.name, "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-machine", "q35", "-accel", "kvm" if accelerate else "tcg,thread=multi"]
    command += ["-cpu", "host" if accelerate else "max", "-m", memory, "-smp", cpus]
    command += ["-drive", f"file={_escape(folder / 'disk.qcow2')},format=qcow2,if=virtio"]
    command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
    command += ["-device", "virtio-rng-pci"]
    command += ["-smbios", f"file={_escape(folder / 'smbios.bin')}"]
    command += ["-serial", f"file:{folder / 'console.txt'}", "-pidfile", str(folder / "qemu.pid")]
    if kernel:
        command += ["-kernel", str(kernel[0]), "-initrd", str(kernel[1])]
        command += ["-append", "root=/dev/vda rw console=ttyS0"]
    return command


def _escape(value: object) -> str:
    return str(value).replace(",", ",,")


class QemuProvisioner:
    """Virtual machines below `<state folder>/qemu/<launch>/<instance>/`.

    The image is never changed: each instance writes to an overlay. User-data is served on this
    machine's loopback while this object lives.
    """

    name = "qemu"
    is_remote = False
    guest_loopback: str | None = HOST
    host_python = False
    ends_instances = False
    role: str | None = None
    options = (
        Option(name="image", help="The disk image to boot: qcow2 or raw.", metavar="FILE"),
        Option(name="make-image", help="Make a Debian 12 image if there is none.", kind="flag"),
        Option(
            name="memory",
            help=f"Memory of an instance, in MiB.  [default: {MEMORY}]",
            kind="number",
            metavar="MIB",
        ),
        Option(name="cpus", help=f"Processors of an instance.  [default: {CPUS}]", kind="number"),
    )

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = session.state
        self._seeds: dict[str, tuple[SeedServer, list[Instance]]] = {}
        self._children: dict[int, Spawned] = {}

    def check(self, options: Options, *, by_role: bool = False) -> str:
        """Refuse, before anything is built, what could never start; makes no image.

        Raises:
            ProvisionError: QEMU or the image is missing, or an option is wrong.
        """
        check_programs(self._session.environment)
        _number(options, "memory", MEMORY)
        _number(options, "cpus", CPUS)
        if options.get("make-image") != "true":
            find_format(self.find_image(options), self._session.environment)
        del by_role
        return "linux-64"

    def render_for(self, options: Options) -> LaunchPath:
        """Return `NOCLOUD`, whatever is asked for."""
        from envboot.userdata import LaunchPath

        del options
        return LaunchPath.NOCLOUD

    def is_interruptible(self, options: Options) -> bool:
        """Return False: nobody else has a claim on this machine."""
        del options
        return False

    def place(self, options: Options) -> dict[str, str]:
        """Return this host, and the state directory."""
        del options
        return find_own_place(self._session.state)

    def start(self, request: StartRequest) -> list[Instance]:
        """Start every instance, or none.

        Raises:
            ProvisionError: QEMU or the image is missing, an option is wrong, or QEMU refuses.
        """
        environment = self._session.environment
        check_programs(environment)
        memory = _number(request.options, "memory", MEMORY)
        cpus = _number(request.options, "cpus", CPUS)
        image = self._ensure_image(request.options)
        kind = find_format(image, environment)
        accelerate = can_accelerate(environment)
        launch = self._state / "qemu" / request.launch
        names = [f"{request.launch}-{request.first + number}" for number in range(request.count)]
        secret = secrets.token_urlsafe(24)
        files = {f"/{secret}/{name}/user-data": request.user_data for name in names}
        for name in names:
            files[f"/{secret}/{name}/meta-data"] = (
                f"instance-id: {name}\nlocal-hostname: {name}\n".encode()
            )
            files[f"/{secret}/{name}/vendor-data"] = b""
        seeds = SeedServer(files)
        instances: list[Instance] = []
        commands: list[list[str]] = []
        self._seeds[f"{request.launch}-{request.first}"] = (seeds, instances)
        kernel = kernel_beside(image)
        try:
            for name in names:
                with defer_interrupts():
                    folder = launch / name
                    folder.mkdir(parents=True, mode=0o700)
                    instances.append(Instance(name=name, launch=request.launch, folder=folder))
                    make_overlay(image, kind, folder / "disk.qcow2", environment)
                    seed = f"http://{HOST}:{seeds.port}/{secret}/{name}/"
                    # cloud-init finds NoCloud by the serial number. Without `dsmode=net` releases
                    # before 24.1 ignore a seed at a URL; `nocloud-net`, their other spelling of
                    # it, is deprecated since.
                    table = render_system(f"ds=nocloud;dsmode=net;s={seed}")
                    write_whole(folder / "smbios.bin", table)
                    command = compose_command(
                        folder,
                        memory=memory,
                        cpus=cpus,
                        accelerate=accelerate,
                        kernel=kernel,
                    )
                    commands.append(command)
                    pid = self._launch(command, folder)
                    instances[-1] = replace(instances[-1], pid=pid)
            if kernel and not accelerate:
                for number, command in enumerate(commands):
                    self._ensure_speaks(instances, number, command)
        except BaseException:
            self.terminate(instances)
            raise
        finally:
            self._close_seeds()
        return instances

    def _ensure_image(self, options: Options) -> Path:
        if options.get("make-image") == "true":
            return ensure_debian_image(self._state / "images", self._session.environment)
        return self.find_image(options)

    def find_image(self, options: Options) -> Path:
        """Return the image that the options name.

        Raises:
            ProvisionError: they name none, or it is not there.
        """
        hint = "Name a cloud image with `--image`, or have a Debian one made with `--make-image`"
        if not options.get("image"):
            raise ProvisionError("Expected a disk image for QEMU, found none", hint=hint)
        image = _find_path(str(options["image"]), self._session)
        if not image.is_file():
            raise ProvisionError(f"Image `{image}` was not found", hint=hint)
        return image

    def _launch(self, command: list[str], folder: Path) -> int:
        pidfile, log = folder / "qemu.pid", folder / "qemu.log"
        with log.open("wb") as output:
            child = spawn(
                command,
                environment=self._session.environment,
                stdout=output,
                stderr=output,
            )
        self._children[child.pid] = child
        # QEMU writes the file when every device stands: a wrong option ends it before that.
        while child.poll() is None and not (pidfile.exists() and pidfile.read_text().strip()):
            time.sleep(0.02)
        if child.poll() is not None:
            raise ProvisionError(
                f"Failed to start QEMU for `{folder.name}`: it ended with {child.returncode}",
                causes=tuple(log.read_text(errors="replace").strip().splitlines()[-3:]),
            )
        return child.pid

    def _ensure_speaks(self, instances: list[Instance], number: int, command: list[str]) -> None:
        """Start an emulated machine again whose kernel writes nothing; changes its process id."""
        instance = instances[number]
        for left in reversed(range(TRIES)):
            deadline = time.monotonic() + SILENCE
            while time.monotonic() < deadline:
                if self.console(instance) or not self.is_running(instance):
                    return
                time.sleep(0.05)
            if not left or not instance.folder:
                break
            with defer_interrupts():
                self._end([instance])
                (instance.folder / "qemu.pid").unlink(missing_ok=True)
                instance = replace(instance, pid=self._launch(command, instance.folder))
                instances[number] = instance
        raise ProvisionError(
            f"Expected the kernel of `{instance.name}` to write on its console within"
            f" {SILENCE:.0f} s, but it wrote nothing in {TRIES} starts"
        )

    def instances(
        self, launch: str | None = None, place: Mapping[str, str] | None = None
    ) -> list[Instance]:
        """Return the instances whose folders are still there, running or not.

        Raises:
            UnseenError: there is none, and the place is not this one.
        """
        found = []
        for folder in sorted((self._state / "qemu").glob(f"{launch or '*'}/*")):
            pidfile = folder / "qemu.pid"
            pid = pidfile.read_text().strip() if pidfile.exists() else ""
            number = int(pid) if pid else None
            name = folder.parent.name
            found.append(Instance(name=folder.name, launch=name, folder=folder, pid=number))
        if launch and place is not None and not found:
            check_own_place(launch, place, self._state)
        return found

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return of each instance whether its QEMU runs."""
        return {i.name: State.of_process(alive=self.is_running(i)) for i in instances}

    def is_running(self, instance: Instance) -> bool:
        """Whether its QEMU runs; a guest that powered off ended it."""
        if instance.pid is None or instance.folder is None:
            return False
        child = self._children.get(instance.pid)
        if child and child.poll() is not None:
            return False
        # Another process may have been given the number since: only ours names the folder, and
        # one that is just ending names nothing any more.
        try:
            found = Path(f"/proc/{instance.pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(instance.folder / "qemu.pid").encode() in found

    def console(self, instance: Instance) -> str:
        """Return what the guest wrote on its first serial port."""
        file = instance.folder / "console.txt" if instance.folder else None
        return file.read_text(errors="replace") if file and file.exists() else ""

    def forget(self, launch: str) -> None:
        """Do nothing: what is over has left no record but its folder."""
        del launch

    def terminate(self, instances: Sequence[Instance], *, keep: bool = False) -> None:
        """End the virtual machines; with `keep`, leave their disks and consoles behind."""
        self._end(instances)
        for instance in instances:
            if instance.folder and not keep:
                shutil.rmtree(instance.folder, ignore_errors=True)
        for launch in {instance.folder.parent for instance in instances if instance.folder}:
            if launch.is_dir() and not any(launch.iterdir()):
                launch.rmdir()
        self._close_seeds()

    def _end(self, instances: Sequence[Instance]) -> None:
        for end in (signal.SIGTERM, signal.SIGKILL):
            for instance in instances:
                if instance.pid and self.is_running(instance):
                    os.kill(instance.pid, end)
            deadline = time.monotonic() + 5
            while any(map(self.is_running, instances)) and time.monotonic() < deadline:
                time.sleep(0.02)

    def doctor(self, options: Options, *, by_role: bool = False, count: int = 1) -> Iterator[Check]:
        """Check QEMU, its acceleration, the options, the image and the state directory."""
        from envboot_provisioners.qemu.doctor import check_qemu

        del by_role
        return check_qemu(self, options, self._session, count=count)

    def _close_seeds(self) -> None:
        for key, (seeds, instances) in list(self._seeds.items()):
            if not any(map(self.is_running, instances)):
                del self._seeds[key]
                seeds.close()


def _number(options: Options, name: str, default: str) -> str:
    value = str(options.get(name, default))
    if not value.isdigit() or int(value) < 1:
        wanted = "MiB as a whole number" if name == "memory" else "a whole number"
        raise ProvisionError(f"Expected `{name}` as {wanted}, found `{value}`")
    return value


def _find_path(text: str, session: Session) -> Path:
    """Return the file that a path names in a session; `~` is the user's own directory."""
    home, _, rest = text.partition("/")
    if home == "~":
        text = os.path.join(session.environment.get("HOME") or Path.home(), rest)  # noqa: PTH118
    return (session.folder / text).resolve()
