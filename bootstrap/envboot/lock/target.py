"""What a lock is for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from envboot.manifest import PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is locked for: `linux-64` or `linux-aarch64`, and the oldest glibc it may have.

    `cuda` is the version that its driver runs (`12.4`), None without a GPU.
    With `host_python` an environment that is not conda's takes this machine's own interpreter.
    """

    platform: str
    glibc: str
    cuda: str | None = None
    host_python: bool
    prefix: str = PREFIX
