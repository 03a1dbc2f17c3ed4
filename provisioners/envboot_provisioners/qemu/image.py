"""A Debian disk image that envboot makes when asked: Debian 12, cloud-init, nothing else."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from envboot.errors import ProvisionError
from envboot.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

SUITE = "bookworm"
SIZE = "8G"
PACKAGES = (
    "ca-certificates", "cloud-init", "dbus", "ifupdown", "iproute2", "isc-dhcp-client",
    "libzstd1", "linux-image-cloud-amd64", "openssh-client", "procps", "python3",
    "systemd-sysv", "udev", "zstd",
)  # fmt: skip
# The image has no `locales` package; host keys of one kind spare a slow guest the others.
CLOUD_CONFIG = "locale: false\nssh_genkeytypes: [ed25519]\n"
FSTAB = "/dev/vda / ext4 defaults 0 1\n"
_NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "genext2fs": "genext2fs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "tune2fs": "e2fsprogs",
}


def kernel_beside(image: Path) -> tuple[Path, Path] | None:
    """Return the kernel and initrd that lie beside an image without a boot loader."""
    kernel, initrd = (image.with_name(f"{image.name}.{end}") for end in ("vmlinuz", "initrd"))
    return (kernel, initrd) if kernel.is_file() and initrd.is_file() else None


def find_debian_image(folder: Path) -> Path | None:
    """Return the Debian disk image below `folder` that this recipe has made, None without one."""
    disk = find_place(folder) / "disk.raw"
    return disk if disk.is_file() else None


def find_place(folder: Path) -> Path:
    """Return where this recipe's image is below `folder`, or would be."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    return folder / f"debian-12-{recipe}"


def ensure_debian_image(folder: Path, environment: Mapping[str, str]) -> Path:
    """Make a Debian disk image below `folder`, or find the one the same recipe made before.

    The disk has one ext4 file system and no boot loader: kernel and initrd lie beside it.
    Packages come through this machine's own apt configuration where it is a Debian 12. Runs
    as root or, through mmdebstrap's own user namespace, as anybody. Takes about a minute.

    Raises:
        ProvisionError: a program is missing, or mmdebstrap fails.
    """
    made = find_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "image.lock"):
        if not made.is_dir():
            check_tools(environment)
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _make(Path(work) / "image", environment)
                (Path(work) / "image").rename(made)
    return made / "disk.raw"


def check_tools(environment: Mapping[str, str]) -> None:
    """Refuse where a program that makes the image is missing.

    Raises:
        ProvisionError: with the packages that have them.
    """
    path = environment.get("PATH")
    missing = sorted(
        {package for name, package in _NEEDED.items() if not shutil.which(name, path=path)}
    )
    if missing:
        names = " ".join(missing)
        raise ProvisionError(
            f"Cannot make a Debian image without `{names}`",
            hint=f"Install it with `apt install {names}`, or name an image with `--image`",
        )


def _make(folder: Path, environment: Mapping[str, str]) -> None:
    folder.mkdir()
    disk = folder / "disk.raw"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=ext2"]
    command += [f"--include={','.join(PACKAGES)}", *apt_options(SUITE, environment)]
    with tempfile.TemporaryDirectory() as work:
        for target, text in (
            ("/etc/cloud/cloud.cfg.d/90-envboot.cfg", CLOUD_CONFIG),
            ("/etc/fstab", FSTAB),
            ("/etc/machine-id", ""),
        ):
            source = Path(work) / target.rpartition("/")[2]
            source.write_text(text)
            command.append(f"--customize-hook=upload {source} {target}")
        remove = "rm -f etc/hostname etc/resolv.conf etc/apt/apt.conf.d/99mmdebstrap"
        command.append(f'--customize-hook=cd "$1" && {remove}')
        for name in ("vmlinuz", "initrd.img"):
            beside = f"{disk}.{name.removesuffix('.img')}"
            command.append(f"--customize-hook=download /{name} {beside}")
        _run([*command, SUITE, str(disk), *apt_sources(SUITE)], environment)
    # What mmdebstrap makes is ext2, and just large enough.
    with disk.open("r+b") as file:
        file.truncate(int(SIZE.removesuffix("G")) << 30)
    _run(["tune2fs", "-O", "has_journal,extents,dir_index,uninit_bg", str(disk)], environment)
    _run(["e2fsck", "-fpD", str(disk)], environment, allowed=(0, 1))
    _run(["resize2fs", str(disk)], environment)


def _run(
    command: list[str], environment: Mapping[str, str], allowed: tuple[int, ...] = (0,)
) -> None:
    done = run(command, environment=environment)
    if done.code not in allowed:
        raise ProvisionError(
            f"Failed to make a Debian image: `{command[0]}` ended with {done.code}",
            causes=done.last_errors(3),
        )


def apt_sources(suite: str) -> list[str]:
    """Return this machine's own apt source files that know `suite`; none: mmdebstrap's own."""
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    files = [path for path in files if path.suffix in {".list", ".sources"} and path.is_file()]
    pattern = re.compile(rf"(?m)^(deb\s.*|Suites:.*)\b{suite}\b.*")
    return [str(path) for path in files if pattern.search(path.read_text())]


def apt_options(suite: str, environment: Mapping[str, str]) -> list[str]:
    """Return this machine's own apt proxy and date checks as mmdebstrap's options."""
    if not apt_sources(suite):
        return []
    dump = run(["apt-config", "dump"], environment=environment).text
    wanted = re.compile(r'(?im)^Acquire::(Check-\S+|Retries|https?::\S*proxy\S*) ".+";$')
    return [f"--aptopt={match.group()}" for match in wanted.finditer(dump)]
