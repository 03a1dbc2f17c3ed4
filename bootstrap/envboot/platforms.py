"""Names of platforms and processors, each table once. Pure.

A platform is named as conda names its subdirs: `linux-64`, `osx-arm64`.
"""

from __future__ import annotations

TARGETS = ("linux-64", "linux-aarch64")
"""The platforms that machines can have."""

MACHINES = {
    "linux-64": "x86_64",
    "linux-aarch64": "aarch64",
    "osx-64": "x86_64",
    "osx-arm64": "arm64",
    "win-64": "AMD64",
    "win-arm64": "ARM64",
}
"""PEP 508's `platform_machine` by platform: what `uname -m` prints there."""

ELF_MACHINES = {
    3: "i386",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
}
"""The processors that native files are compiled for, by `e_machine` (elf(5))."""


def find_target(machine: str) -> str:
    """Return the platform of a Linux machine by its processor, as `uname -m` or a cloud names it.

    What is neither x86-64 nor 64-bit Arm counts as x86-64.
    """
    return "linux-aarch64" if machine.lower() in ("aarch64", "arm64") else "linux-64"
