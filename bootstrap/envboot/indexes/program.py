"""The uv that came with envboot."""

from __future__ import annotations

from envboot.errors import LockError


def find_uv() -> str:
    """Return the path of the uv that came with envboot; raises `LockError`."""
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise LockError(
            "Cannot find uv's program beside its Python package",
            causes=(str(error),),
            hint="Install it again with `pip install --force-reinstall uv`",
        ) from error
