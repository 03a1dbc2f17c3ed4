"""A Debian 12 root file system for test machines, made once by mmdebstrap."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

from envboot_provisioners.qemu.image import apt_options, apt_sources

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates", "cloud-init", "dbus", "iproute2", "libzstd1", "openssh-client", "procps",
    "python3", "systemd-sysv", "udev", "util-linux", "zstd",
)  # fmt: skip
MASKED = (
    "apt-daily-upgrade.timer", "apt-daily.timer", "cloud-init-hotplugd.socket",
    "console-getty.service", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "getty.target", "networking.service", "systemd-udevd.service",
    "systemd-udev-trigger.service",
)  # fmt: skip
# Without `locale: false` the missing `locales` package makes cloud-init's status an error;
# cloud-init makes host keys with openssh-client's program, whether or not a server is there.
CLOUD_CONFIG = """\
locale: false
network: {config: disabled}
ssh_genkeytypes: [ed25519]
"""


def ensure_root(cache: Path) -> Path:
    """Make the root file system, or find the one that the same recipe made before.

    It belongs to nobody in particular: machines put an overlay over it and never change it.
    """
    folder = cache / f"root-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "root.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as work:
                made = Path(work) / "root"
                command = ["mmdebstrap", "--quiet", "--variant=minbase"]
                command += [
                    f"--include={','.join(PACKAGES)}",
                    *apt_options(SUITE, os.environ),
                    SUITE,
                    str(made),
                ]
                subprocess.run([*command, *apt_sources(SUITE)], check=True)
                _settle(made)
                made.rename(folder)
    return folder


def _settle(root: Path) -> None:
    """Leave what an image leaves: no identity, no proxy of this machine, nothing to wait for."""
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/cloud/cloud.cfg.d/90-tests.cfg").write_text(CLOUD_CONFIG)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "var/log/journal").mkdir(exist_ok=True)
    shutil.rmtree(root / "usr/share/doc")
    (root / "usr/share/doc").mkdir()
