"""The environment markers of a target. Pure."""

from __future__ import annotations

from bootstrap.lock.tags import ARCH


def target_markers(platform: str, version: str) -> dict[str, str]:
    """Return PEP 508's variables on a machine of this platform with CPython `version`."""
    return {
        "implementation_name": "cpython",
        "implementation_version": version,
        "os_name": "posix",
        "platform_machine": ARCH[platform],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": "linux",
    }
