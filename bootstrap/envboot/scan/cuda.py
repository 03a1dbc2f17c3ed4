"""The graphics driver of this machine."""

from __future__ import annotations

from pathlib import Path

DRIVER = Path("/proc/driver/nvidia")


def find_cuda(driver: Path = DRIVER) -> str | None:
    """Return the newest CUDA version that this machine's driver runs, None without a driver.

    It is what conda's `__cuda` says: `cuDriverGetVersion` of libcuda, 1000 * major + 10 * minor.
    """
    if not driver.exists():
        return None
    import ctypes

    version = ctypes.c_int(0)
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (AttributeError, OSError):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
