"""What is told of the interpreter itself, and of its machine."""

from __future__ import annotations

import os
import sys
import sysconfig

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from typing import Any


def describe_interpreter() -> dict[str, Any]:
    """Return the members of `Interpreter`."""
    paths = sysconfig.get_paths()
    base = os.path.realpath(sys.executable)
    if sys.prefix != sys.base_prefix and base.startswith(os.path.realpath(sys.prefix) + os.sep):
        # A venv made with copies: no link leads out of it.
        base = os.path.realpath(getattr(sys, "_base_executable", base))
    return {
        "version": "%d.%d.%d" % sys.version_info[:3] + release_suffix(),
        "implementation": sys.implementation.name,
        "executable": sys.executable,
        "base_executable": base,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "tag": sys.implementation.cache_tag or sys.implementation.name,
        "purelib": paths["purelib"],
        "platlib": paths["platlib"],
    }


def release_suffix() -> str:
    """Return `rc1`, `b2` or nothing."""
    short = {"alpha": "a", "beta": "b", "candidate": "rc"}
    level = short.get(sys.version_info.releaselevel)
    return "%s%d" % (level, sys.version_info.serial) if level else ""


def describe_platform() -> str:
    """Return the platform as conda names its subdirs: `linux-64`, `osx-arm64`."""
    system = {"darwin": "osx", "win32": "win"}.get(sys.platform, sys.platform)
    machine = sysconfig.get_platform().replace("-", "_").rpartition("_")[2]
    if hasattr(os, "uname"):
        machine = os.uname().machine
    if machine in ("x86_64", "amd64", "64"):
        machine = "64" if sys.maxsize > 2**32 else "32"
    elif machine in ("i386", "i686", "win32"):
        machine = "32"
    return "%s-%s" % (system, machine)


def find_glibc() -> str | None:
    """Return glibc's version, None where the C library is another."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return None
    return version if name == "glibc" else None
