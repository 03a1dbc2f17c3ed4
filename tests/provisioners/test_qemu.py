"""What QEMU is asked to do, and every way in which it can be refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from envboot.errors import ProvisionError
from envboot.store.local import gate
from envboot_provisioners import Instance, StartRequest, qemu
from envboot_provisioners.qemu import QemuProvisioner, compose_command
from envboot_provisioners.qemu.programs import QEMU, can_accelerate, find_format, make_overlay
from envboot_provisioners.qemu.seed import SeedServer
from envboot_provisioners.qemu.smbios import render_system
from tests.sessions import make_session

FOLDER = Path("/state/qemu/a1/a1-0")
SEED = "http://10.0.2.2:4000/secret/a1-0/"


def compose(*, accelerate: bool = False, kernel: tuple[Path, Path] | None = None) -> list[str]:
    return compose_command(FOLDER, memory="2048", cpus="2", accelerate=accelerate, kernel=kernel)


def after(command: list[str], option: str) -> list[str]:
    return [value for key, value in pairwise(command) if key == option]


def test_the_guest_is_headless_and_never_reboots() -> None:
    command = compose()
    assert after(command, "-display") == ["none"]
    assert "-no-reboot" in command
    assert after(command, "-serial") == ["file:/state/qemu/a1/a1-0/console.txt"]
    assert after(command, "-pidfile") == ["/state/qemu/a1/a1-0/qemu.pid"]


def test_the_serial_number_is_read_from_a_file() -> None:
    assert after(compose(), "-smbios") == ["file=/state/qemu/a1/a1-0/smbios.bin"]


def test_the_table_is_system_information_with_a_serial_number() -> None:
    table = render_system(f"ds=nocloud;dsmode=net;s={SEED}")
    kind, length, handle = struct.unpack_from("<BBH", table)
    assert (kind, length, handle) == (1, 27, 0x100)
    strings = table[length:]
    assert strings.endswith(b"\0\0")
    # The number at offset 7 says which string it is (SMBIOS 3.6, 7.2).
    assert strings.split(b"\0")[table[7] - 1].decode() == f"ds=nocloud;dsmode=net;s={SEED}"


def test_acceleration_brings_the_hosts_own_processor() -> None:
    assert after(compose(accelerate=True), "-accel") == ["kvm"]
    assert after(compose(accelerate=True), "-cpu") == ["host"]
    assert after(compose(), "-accel") == ["tcg,thread=multi"]
    assert after(compose(), "-cpu") == ["max"]


def test_a_kernel_beside_the_image_is_started_directly() -> None:
    command = compose(kernel=(Path("/i/k"), Path("/i/r")))
    assert after(command, "-kernel") == ["/i/k"]
    assert after(command, "-initrd") == ["/i/r"]
    assert "-kernel" not in compose()


def test_a_comma_in_a_folder_does_not_end_an_option() -> None:
    folder = Path("/a,b/x")
    command = compose_command(folder, memory="1", cpus="1", accelerate=False)
    assert after(command, "-drive")[0].startswith("file=/a,,b/x/disk.qcow2,")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk whose boot sector only stops the processor."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return disk


def request(**options: str) -> StartRequest:
    return StartRequest(
        launch="a1", count=2, user_data=b"#!/bin/sh\n", fixed_prefix=True, options=options
    )


@pytest.mark.subprocess
def test_an_overlay_takes_every_write_and_the_image_keeps_its_bytes(
    image: Path, tmp_path: Path
) -> None:
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    overlay = tmp_path / "overlay.qcow2"
    make_overlay(image, "raw", overlay, os.environ)
    subprocess.run(["qemu-io", "-c", "write -P 1 0 4096", str(overlay)], check=True)
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before
    plain = tmp_path / "plain"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(overlay), str(plain)], check=True)
    assert plain.read_bytes()[:4096] == b"\1" * 4096


@pytest.mark.subprocess
def test_qcow2_and_bootable_raw_images_are_known_and_others_are_refused(
    image: Path, tmp_path: Path
) -> None:
    qcow2, vdi = tmp_path / "a.qcow2", tmp_path / "a.vdi"
    for kind, path in (("qcow2", qcow2), ("vdi", vdi)):
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, str(path), "1M"], check=True)
    assert find_format(image, os.environ) == "raw"
    assert find_format(qcow2, os.environ) == "qcow2"
    with pytest.raises(ProvisionError, match="as `qcow2` or `raw`, found `vdi`"):
        find_format(vdi, os.environ)
    text = tmp_path / "notes.txt"
    text.write_text("no disk")
    with pytest.raises(ProvisionError, match="found `unknown`"):
        find_format(text, os.environ)


@pytest.mark.subprocess
def test_a_missing_image_and_a_wrong_option_are_refused_before_anything_starts(
    image: Path, tmp_path: Path
) -> None:
    provisioner = QemuProvisioner(make_session(state=tmp_path / "state"))
    for options, message in (
        ({}, "Expected a disk image for QEMU, found none"),
        ({"image": str(tmp_path / "none")}, "was not found"),
        ({"image": str(image), "memory": "2G"}, "Expected `memory` as MiB"),
        ({"image": str(image), "cpus": "0"}, "Expected `cpus`"),
    ):
        with pytest.raises(ProvisionError, match=message):
            provisioner.start(request(**options))
    assert not (tmp_path / "state").exists()


def test_a_machine_without_qemu_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProvisionError) as caught:
        QemuProvisioner(make_session(state=tmp_path)).start(request(image="/x"))
    assert caught.value.hint == "Install it with `apt install qemu-system-x86 qemu-utils`"


@pytest.mark.subprocess
@pytest.mark.sockets
def test_instances_start_and_end_and_leave_nothing(image: Path, tmp_path: Path) -> None:
    provisioner = QemuProvisioner(make_session(state=tmp_path / "state"))
    instances = provisioner.start(request(image=str(image), memory="64", cpus="1"))
    assert [instance.name for instance in instances] == ["a1-0", "a1-1"]
    assert all(map(provisioner.is_running, instances))
    # Another process, a later command, sees the same.
    assert all(map(QemuProvisioner(make_session(state=tmp_path / "state")).is_running, instances))
    first = instances[0]
    assert first.folder is not None
    # What other users read of QEMU, and what only this one does.
    table = first.folder / "smbios.bin"
    [(secret, _)] = re.findall(rb"/([\w-]{32})/(a1-0)/", table.read_bytes())
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.folder.stat().st_mode) == 0o700
    for instance in instances:
        for file in ("cmdline", "comm", "mountinfo"):
            assert secret not in Path(f"/proc/{instance.pid}/{file}").read_bytes()
    assert (first.folder / "qemu.pid").read_text().strip() == str(first.pid)
    provisioner.terminate(instances[:1])
    assert [provisioner.is_running(instance) for instance in instances] == [False, True]
    provisioner.terminate(instances[1:], keep=True)
    assert not provisioner.is_running(instances[1])
    assert instances[1].folder is not None
    assert (instances[1].folder / "disk.qcow2").exists()
    assert not first.folder.exists()


@pytest.mark.subprocess
@pytest.mark.sockets
@pytest.mark.parametrize("speaks", [2, 4])
def test_an_emulated_machine_whose_kernel_says_nothing_is_started_again(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speaks: int
) -> None:
    for name in ("vmlinuz", "initrd"):
        image.with_name(f"{image.name}.{name}").touch()
    speaking = tmp_path / "speaking.raw"
    # mov dx, 0x3f8; mov al, 'A'; out dx, al; hlt: a letter on the first serial port.
    code = b"\xba\xf8\x03\xb0A\xee\xf4\xeb\xfd"
    speaking.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    real, launch, started = compose_command, QemuProvisioner._launch, []

    def without_kernel(folder: Path, **options: object) -> list[str]:
        return real(folder, **{**options, "kernel": None})  # type: ignore[arg-type]

    def counted(self: QemuProvisioner, command: list[str], folder: Path) -> int:
        started.append(folder.name)
        if len(started) == speaks:
            (folder / "disk.qcow2").unlink()
            make_overlay(speaking, "raw", folder / "disk.qcow2", os.environ)
        return launch(self, command, folder)

    monkeypatch.setattr(qemu, "can_accelerate", lambda _: False)
    monkeypatch.setattr(qemu, "compose_command", without_kernel)
    monkeypatch.setattr(QemuProvisioner, "_launch", counted)
    monkeypatch.setattr(qemu, "SILENCE", 3)
    provisioner = QemuProvisioner(make_session(state=tmp_path / "state"))
    one = replace(request(image=str(image), memory="64", cpus="1"), count=1)
    if speaks == 4:
        with pytest.raises(ProvisionError, match=r"`a1-0` to write .* nothing in 3 starts"):
            provisioner.start(one)
        assert started == ["a1-0"] * 3
        assert not _named(str(tmp_path))
        return
    instances = provisioner.start(one)
    assert started == ["a1-0"] * 2
    assert provisioner.instances() == instances
    provisioner.terminate(instances)
    assert not _named(str(tmp_path))


@pytest.mark.subprocess
@pytest.mark.sockets
def test_when_one_instance_cannot_start_the_others_are_ended(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner = QemuProvisioner(make_session(state=tmp_path / "state"))
    real, started = compose_command, []

    def second_is_wrong(folder: Path, **options: object) -> list[str]:
        command = real(folder, **options)  # type: ignore[arg-type]
        started.append(folder)
        return command if len(started) == 1 else [*command, "-no-such-option"]

    monkeypatch.setattr(qemu, "compose_command", second_is_wrong)
    with pytest.raises(ProvisionError) as caught:
        provisioner.start(request(image=str(image), memory="64", cpus="1"))
    assert "Failed to start QEMU for `a1-1`" in caught.value.message
    assert "no-such-option" in " ".join(caught.value.causes)
    assert not (tmp_path / "state" / "qemu" / "a1").exists()
    assert not _named(str(tmp_path))


def _named(text: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if command.startswith(QEMU) and text in command:
            found.append(folder.name)
    return found


@pytest.mark.subprocess
def test_a_process_that_was_given_the_number_since_is_never_ended(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "30"])
    try:
        instance = Instance(name="a1-0", launch="a1", folder=tmp_path / "a1-0", pid=other.pid)
        provisioner = QemuProvisioner(make_session(state=tmp_path))
        assert not provisioner.is_running(instance)
        provisioner.terminate([instance])
        time.sleep(0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.sockets
def test_user_data_is_served_only_at_its_own_path() -> None:
    server = SeedServer({"/secret/a1-0/user-data": b"\x1f\x8b binary"})
    base = f"http://127.0.0.1:{server.port}"
    try:
        with urllib.request.urlopen(f"{base}/secret/a1-0/user-data") as answer:
            assert answer.read() == b"\x1f\x8b binary"
        for path in ("/", "/secret/", "/secret/a1-0/", "/secret/../etc/passwd"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(base + path)
    finally:
        server.close()


@pytest.mark.sockets
def test_strangers_cannot_hold_the_server_of_user_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.3)
    server = SeedServer({"/secret/a1-0/user-data": b"content"})
    try:
        slow, large = (socket.create_connection(("127.0.0.1", server.port), 20) for _ in "ab")
        with slow, large:
            slow.sendall(b"GET /")
            assert slow.recv(1) == b""
            with contextlib.suppress(ConnectionError):
                large.sendall(b"GET / HTTP/1.1\r\nA: " + b"b" * (gate.HEAD + 1) + b"\r\n\r\n")
                assert large.recv(12) in (b"HTTP/1.1 431", b"")
        url = f"http://127.0.0.1:{server.port}/secret/a1-0/user-data"
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"content"
    finally:
        server.close()


@pytest.mark.subprocess
def test_acceleration_is_refused_where_the_device_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not can_accelerate(os.environ)


@pytest.mark.subprocess
def test_acceleration_is_refused_where_a_guest_does_not_run_on_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, script in (("hangs", "exec sleep 30"), ("aborts", "exit 134"), ("works", "exit 33")):
        program = tmp_path / name / QEMU
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setattr(os, "access", lambda *_: True)
    found = {}
    for name in ("hangs", "aborts", "works"):
        monkeypatch.setenv("PATH", f"{tmp_path / name}:/usr/bin:/bin")
        found[name] = can_accelerate(os.environ, seconds=1)
    assert found == {"hangs": False, "aborts": False, "works": True}


def test_a_debian_image_wants_mmdebstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from envboot_provisioners.qemu.image import ensure_debian_image

    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(ProvisionError) as caught:
        ensure_debian_image(tmp_path, os.environ)
    assert "`e2fsprogs genext2fs mmdebstrap`" in caught.value.message
