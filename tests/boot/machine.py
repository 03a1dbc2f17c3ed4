"""Boot a Debian under systemd-nspawn, with its own cloud-init, and read back what it did.

A machine is right only when it ends with `DONE`, which nothing but the collector inside it
says: neither a crash nor a clean power-off can pass for it. README.md tells how to use this.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.boot.gce_machine import compose_files
from tests.boot.gce_metadata import GceMetadataServer
from tests.boot.metadata import ADDRESS, MetadataServer
from tests.boot.network import Forwarder, Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.boot.vpc import Vpc

DONE = 77
"""The exit code of a machine whose collector came to its end."""
COLLECTED = "var/lib/envboot-test"
_INSIDE = "usr/local/lib/envboot-test"
_COLLECTOR = Path(__file__).with_name("collect.sh")
_UNIT = f"""\
[Unit]
Description=Collect what the test asks for, then end the machine

[Service]
Type=exec
ExecStart=/bin/sh /{_INSIDE}/collect.sh
"""
# ds-identify reads the list's line with a shell pattern, so no JSON here.
_EC2 = f"""\
datasource_list: [Ec2]
datasource:
  Ec2: {{strict_id: false, max_wait: 10, timeout: 3, metadata_urls: ["http://{ADDRESS}"]}}
"""


BOOTED: dict[str, Path] = {}
"""The machines of the test that runs, and their folders: where it fails, it shows them."""
_TAIL = 150_000


class BootError(AssertionError):
    """The machine did not end as it should; the message carries the end of its console."""


def describe_machines() -> Iterator[tuple[str, str]]:
    """Yield what there is to read of every machine of the test: a title, and the end of a text."""
    for name, folder in BOOTED.items():
        for file in (folder / "console.txt", folder / "qemu.log"):
            if file.is_file():
                yield f"{file.stem} of {name}", file.read_text(errors="replace")[-_TAIL:]
        journal = folder / "upper/var/log/journal"
        if journal.is_dir():
            command = ["journalctl", "-D", str(journal), "-o", "short-monotonic", "--no-pager"]
            done = subprocess.run([*command, "--all"], capture_output=True, check=False)
            text = (done.stdout + done.stderr).decode(errors="replace")
            yield f"journal of {name}", text[-_TAIL:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """What one machine is given.

    Args:
        user_data: the rendered document.
        datasource: `nocloud` (a seed folder), `ec2` or `gce` (a metadata service at its address),
            or `gce-startup-script` (no cloud-init, and a guest agent like Google's).
        ports: ports of this process's loopback that its loopback reaches; nothing else is.
        files: extra files by absolute path, written before the boot.
        commands: extra shell commands whose output is collected, by name.
        patient: wait for units that restart after a failure too.
        role: name and credentials of its role (`ec2`).
        leaves: what Google's metadata server has beside a machine's own (`gce`).
        require_token: whether its metadata service insists on IMDSv2 (`ec2`).
        instance: its instance id; else one that is made of its name.
        network: the VPC that it is in, and its address there; else it has no link.
        stays: run until it is ended, as a cloud's machine does, and collect nothing.
    """

    user_data: bytes
    datasource: Literal["nocloud", "ec2", "gce", "gce-startup-script"] = "nocloud"
    ports: tuple[int, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    patient: bool = False
    role: tuple[str, dict[str, str]] | None = None
    leaves: dict[str, str | Callable[[], str]] = field(default_factory=dict)
    require_token: bool = False
    instance: str | None = None
    network: tuple[Vpc, str] | None = None
    stays: bool = False


class Report:
    """What a machine left behind."""

    def __init__(self, root: Path, upper: Path, console: str) -> None:
        self.console = console
        self._layers = (upper, root)

    def find(self, path: str) -> bytes | None:
        """Return a file of the machine, None where it is none; absolute links are followed."""
        for _ in range(8):
            here = [layer / path.lstrip("/") for layer in self._layers]
            found = next((file for file in here if file.is_symlink() or file.exists()), None)
            if found is None or not found.is_symlink():
                return found.read_bytes() if found and found.is_file() else None
            path = str(Path("/", path).parent / found.readlink())
        return None

    def text(self, path: str) -> str:
        """Return a text file of the machine; fails where it is none."""
        data = self.find(path)
        assert data is not None, f"the machine has no file {path}"
        return data.decode()

    def output(self, name: str) -> str:
        """Return what one of the collected commands printed, stripped."""
        return self.text(f"{COLLECTED}/{name}").strip()

    def code(self, name: str) -> int:
        """Return the exit code of one of the collected commands."""
        return int(self.text(f"{COLLECTED}/{name}.code"))

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Return the journal's records, as `journalctl -o json` has them."""
        command = ["journalctl", "-D", str(self._layers[0] / "var/log/journal"), "-o", "json"]
        lines = subprocess.run(
            [*command, "--no-pager", "--all", *matches], capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in lines.stdout.splitlines()]


class Machine:
    """A machine that is running, made by `boot`."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], root: Path, folder: Path
    ) -> None:
        self.name = name
        self.process = process
        self.metadata: MetadataServer | None = None
        self.google: GceMetadataServer | None = None
        self._root = root
        self._folder = folder

    def console(self) -> str:
        """Return what it printed so far."""
        return (self._folder / "console.txt").read_text(errors="replace")

    def wait(self, seconds: float) -> Report:
        """Wait until it has ended by itself, and return what it left.

        Raises:
            BootError: it still ran at the deadline, or ended with anything but `DONE`.
        """
        tail = 4000
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            end = self.console()[-tail:]
            raise BootError(f"{self.name} still ran after {seconds} s\n{end}") from None
        if code != DONE:
            end = self.console()[-tail:]
            raise BootError(f"{self.name} ended with {code}, not {DONE}\n{end}")
        return Report(self._root, self._folder / "upper", self.console())

    def end(self) -> None:
        """Kill it where it still runs; everything inside dies with it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def boot(name: str, spec: Spec, *, root: Path, folder: Path) -> Iterator[Machine]:
    """Boot a machine named `name` (unique among those that run) with its files in `folder`.

    Its mounts belong to its own mount namespace and its network to its own network namespace,
    so at its end, or at the end of this process, nothing of it is left but `folder`. It is
    killed with the thread that calls this. A folder that is there already is booted once more.
    """
    BOOTED[name] = folder
    if not folder.exists():
        folder.mkdir(parents=True)
        _write_files(name, spec, root, folder / "upper")
        for part in ("work", "merged"):
            (folder / part).mkdir()
    with ExitStack() as undo:
        addresses = [f"{ADDRESS}/32"] if spec.datasource != "nocloud" else []
        namespace = Namespace(*addresses)
        undo.callback(namespace.close)
        undo.callback(Forwarder(namespace, spec.ports).close)
        if spec.network:
            vpc, address = spec.network
            undo.enter_context(vpc.joined(namespace, address))
        metadata = server = None
        if spec.datasource == "ec2":
            metadata = MetadataServer(
                namespace.listen(ADDRESS, 80),
                instance=_instance(name, spec),
                user_data=spec.user_data,
                role=spec.role,
                require_token=spec.require_token,
                address=spec.network[1] if spec.network else None,
            )
            undo.callback(metadata.close)
        elif spec.datasource != "nocloud":
            server = GceMetadataServer(namespace.listen(ADDRESS, 80), instance=name)
            server.tree |= spec.leaves
            undo.callback(server.close)
        with (folder / "console.txt").open("wb") as console:
            process = subprocess.Popen(
                _command(name, root, folder, namespace.path),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        machine = Machine(name, process, root, folder)
        machine.metadata, machine.google = metadata, server
        undo.callback(machine.end)
        yield machine


def _instance(name: str, spec: Spec) -> str:
    return spec.instance or f"i-{name}"


def _command(name: str, root: Path, folder: Path, network: str) -> list[str]:
    layers = f"lowerdir={root},upperdir={folder}/upper,workdir={folder}/work"
    nspawn = [
        "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--boot",
        f"--directory={folder}/merged", f"--machine={name}", "--resolv-conf=off",
        "--timezone=off", "--link-journal=no", "--console=read-only",
        "--network-namespace-path=/proc/self/ns/net",
        # A machine's root sets up its own network; it ends with the machine.
        "--capability=CAP_NET_ADMIN",
    ]  # fmt: skip
    commands = [
        # nspawn keeps its own files below /run and clears them only where that is a tmpfs.
        ["mount", "-t", "tmpfs", "tmpfs", "/run"],
        ["mount", "-t", "overlay", "overlay", "-o", layers, f"{folder}/merged"],
        nspawn,
    ]
    script = " && ".join(shlex.join(command) for command in commands)
    # A container outlives an nspawn that is killed, but nothing outlives its process namespace.
    # /sys shows the network of the process that mounts it, so nspawn itself must be inside.
    inside = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    enter = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--net={network}"]
    return [*enter, *inside, "sh", "-c", f"{script}; exit $?"]


def _write_files(name: str, spec: Spec, root: Path, upper: Path) -> None:
    seed, config = "var/lib/cloud/seed/nocloud", "etc/cloud/cloud.cfg.d/95-datasource.cfg"
    files: dict[str, bytes] = {
        f"{_INSIDE}/collect.sh": _COLLECTOR.read_bytes(),
        f"{_INSIDE}/patient": b"1" if spec.patient else b"",
        "etc/systemd/system/envboot-test.service": _UNIT.encode(),
    }
    for title, command in spec.commands.items():
        files[f"{_INSIDE}/commands/{title}"] = command.encode()
    if spec.datasource == "nocloud":
        files[f"{seed}/meta-data"] = f"instance-id: {_instance(name, spec)}\n".encode()
        files[f"{seed}/user-data"] = spec.user_data
        files[config] = b"datasource_list: [NoCloud]\n"
    elif spec.datasource == "ec2":
        files[config] = _EC2.encode()
    else:
        files |= compose_files(root, cloud_init=spec.datasource == "gce")
    for path, data in {**files, **spec.files}.items():
        file = upper / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    if spec.stays:
        return
    wants = upper / "etc/systemd/system/multi-user.target.wants/envboot-test.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.symlink_to("/etc/systemd/system/envboot-test.service")
