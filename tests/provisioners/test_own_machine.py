"""What `local` and `qemu` need of this machine, found by trying it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.doctor.state import check_state
from envboot_provisioners.local import LocalProvisioner
from envboot_provisioners.namespaces import check_namespace
from envboot_provisioners.qemu import QemuProvisioner
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot.doctor.check import Check
    from envboot_provisioners import Options

pytestmark = pytest.mark.subprocess


def examine(state: Path, path: str | None = None, **options: str) -> dict[str, Check]:
    environment = {**os.environ, **({"PATH": path} if path else {})}
    made = QemuProvisioner(make_session(state=state, environment=environment, folder=state.parent))
    given: Options = {name.replace("_", "-"): value for name, value in options.items()}
    return {check.name: check for check in made.doctor(given)}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk whose boot sector only stops the processor."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return disk


def test_a_folder_with_space_is_right_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    found = check_state("local disk", tmp_path / "state", each=1, count=3)
    assert found.status == "ok"
    assert f"GB free in `{tmp_path / 'state'}`" in found.detail
    assert list((tmp_path / "state").iterdir()) == []


def test_little_space_is_a_warning_that_says_how_much_is_usual(tmp_path: Path) -> None:
    one = check_state("local disk", tmp_path, each=10**18, count=1)
    assert one.status == "warning"
    assert one.detail.endswith("; an instance usually takes 1,000,000,000.0 GB")
    two = check_state("local disk", tmp_path, each=10**18, count=2)
    assert two.detail.endswith("; 2 instances usually take 2,000,000,000.0 GB")
    assert "`ENVBOOT_STATE_DIR`" in str(two.hint)


def test_a_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = check_state("local disk", tmp_path / "file" / "state", each=1, count=1)
    assert (found.status, "Not a directory" in found.detail) == ("failed", True)


@pytest.mark.boot
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")
def test_a_full_file_system_fails(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(tmp_path)]
    subprocess.run(mount, check=True)
    try:
        (tmp_path / "full").write_bytes(bytes(4096))
        found = check_state("local disk", tmp_path, each=1, count=1)
        assert (found.status, "No space left" in found.detail) == ("failed", True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_name_space_of_conda_environments_is_really_made(tmp_path: Path) -> None:
    found = check_namespace(os.environ)
    if found.status == "ok":
        assert found.detail == "Conda environments can have `/opt/envboot`"
    else:
        assert "envboot launch qemu" in str(found.hint)


@pytest.mark.parametrize(
    ("unshare", "reason"),
    [
        (None, "`unshare` was not found"),
        ("echo 'unshare failed: Operation not permitted' >&2; exit 1", "Operation not permitted"),
        # What may be unshared may still mount nothing.
        (
            '[ "$#" -lt 4 ] || { echo "mount: denied" >&2; exit 32; }',
            "mount: denied",
        ),
    ],
)
def test_without_name_spaces_conda_environments_are_warned_of(
    tmp_path: Path, unshare: str | None, reason: str
) -> None:
    if unshare:
        (tmp_path / "unshare").write_text(f"#!/bin/sh\n{unshare}\n")
        (tmp_path / "unshare").chmod(0o755)
    session = make_session(state=tmp_path / "state", environment={"PATH": str(tmp_path)})
    name_space, disk = LocalProvisioner(session).doctor({})
    assert (name_space.name, name_space.status) == ("local name space", "warning")
    assert reason in name_space.detail
    assert "`envboot launch qemu`" in str(name_space.hint)
    assert disk.name == "local disk"


def test_a_machine_without_qemu_fails_and_tells_what_to_install(tmp_path: Path) -> None:
    found = examine(tmp_path / "state", path=str(tmp_path))
    assert list(found) == ["qemu programs", "qemu disk"]
    assert found["qemu programs"].status == "failed"
    assert "`apt install qemu-system-x86 qemu-utils`" in str(found["qemu programs"].hint)


def test_the_image_is_looked_at_in_the_sessions_folder(image: Path, tmp_path: Path) -> None:
    found = examine(tmp_path / "state", image="disk.raw")
    assert list(found) == ["qemu programs", "qemu kvm", "qemu image", "qemu disk"]
    assert found["qemu image"].detail == f"`{image}` (raw)"
    assert found["qemu kvm"].status in ("ok", "warning")
    assert (found["qemu kvm"].hint is None) == (found["qemu kvm"].status == "ok")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Expected a disk image for QEMU, found none"),
        ({"image": "none.raw"}, "none.raw` was not found"),
        ({"image": "disk.raw", "memory": "much"}, "Expected `memory` as MiB"),
    ],
)
def test_an_image_or_an_option_that_a_launch_would_refuse_fails(
    image: Path, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    found = examine(tmp_path / "state", **options)["qemu image"]
    assert found.status == "failed"
    assert words in found.detail


def test_an_image_that_can_be_made_or_is_made_already_is_right(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (programs / name).symlink_to(str(shutil.which(name)))
    found = examine(tmp_path / "state", path=str(programs), make_image="true")["qemu image"]
    assert found.status == "failed"
    assert "mmdebstrap" in str(found.hint)
    for name in ("mmdebstrap", "genext2fs", "e2fsck", "resize2fs", "tune2fs"):
        (programs / name).symlink_to("/bin/true")
    found = examine(tmp_path / "state", path=str(programs), make_image="true")["qemu image"]
    assert (found.status, found.detail) == ("ok", "A Debian 12 image can be made")
    from envboot_provisioners.qemu.image import find_place

    place = find_place(tmp_path / "state/images")
    place.mkdir(parents=True)
    (place / "disk.raw").write_bytes(b"")
    found = examine(tmp_path / "state", path=str(programs), make_image="true")["qemu image"]
    assert found.detail == f"`{place / 'disk.raw'}`, made before"


def test_the_users_own_folder_is_the_sessions(image: Path, tmp_path: Path) -> None:
    session = make_session(
        state=tmp_path / "state", folder=Path("/"), environment={"HOME": str(tmp_path)}
    )
    assert QemuProvisioner(session).find_image({"image": "~/disk.raw"}) == image
