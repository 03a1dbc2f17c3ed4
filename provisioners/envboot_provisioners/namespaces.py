"""Mount name spaces, in which each instance of this machine has an `/opt/envboot` of its own."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from envboot.doctor.check import Check
from envboot.errors import ProvisionError
from envboot.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

# A conda environment works at its prefix only. In a mount name space of its own each instance
# has its own /opt/envboot: where the host has none, /opt is shown again with that folder added.
NAMESPACE = r"""
set -eu
mine=$1; shift
if [ ! -d /opt/envboot ]; then
  shown=$mine/opt.shown
  mkdir -p "$shown"
  mount -t tmpfs -o mode=755 none "$shown"
  for entry in /opt/* /opt/.[!.]*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$shown/"
    elif [ -d "$entry" ]; then
      mkdir "$shown/${entry##*/}"; mount --rbind "$entry" "$shown/${entry##*/}"
    elif [ -e "$entry" ]; then
      : >"$shown/${entry##*/}"; mount --bind "$entry" "$shown/${entry##*/}"
    fi
  done
  mkdir "$shown/envboot"
  mount --rbind "$shown" /opt
fi
mkdir -p "$mine/opt/envboot"
mount --bind "$mine/opt/envboot" /opt/envboot
exec "$@"
"""


_HINT = (
    "Allow user name spaces (`sysctl kernel.unprivileged_userns_clone=1`; on Ubuntu "
    "`kernel.apparmor_restrict_unprivileged_userns=0`), or use `envboot launch qemu`"
)


def find_namespace(environment: Mapping[str, str]) -> list[str]:
    """Return the command that gives an instance its own /opt/envboot."""
    options = ["--mount"] if os.geteuid() == 0 else ["--map-root-user", "--mount"]
    command = ["unshare", *options]
    try:
        tried = run([*command, "true"], environment=environment)
        seen = tried.errors.strip() or f"`unshare` ended with {tried.code}"
    except FileNotFoundError:
        seen = "`unshare` was not found"
    else:
        if tried.code == 0:
            return [*command, "sh", "-c", NAMESPACE, "sh"]
    raise ProvisionError(
        "Cannot show a conda environment at `/opt/envboot/env` on `local`",
        causes=(seen,),
        hint=_HINT,
    )


def check_namespace(environment: Mapping[str, str]) -> Check:
    """Show an empty `/opt/envboot`, as a conda environment's instance does its own."""
    name = "local name space"
    try:
        command = find_namespace(environment)
        with tempfile.TemporaryDirectory() as folder:
            tried = run([*command, folder, "test", "-d", "/opt/envboot"], environment=environment)
        causes = tried.last_errors() if tried.code else ()
    except ProvisionError as error:
        causes = error.causes
    if causes:
        detail = f"Conda environments cannot be launched: {'; '.join(causes)}"
        return Check(name=name, status="warning", detail=detail, hint=_HINT)
    return Check(name=name, status="ok", detail="Conda environments can have `/opt/envboot`")
