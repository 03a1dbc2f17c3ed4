"""The state directory, where instances of this machine live: writable, and with space."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

from envboot.doctor.check import Check

if TYPE_CHECKING:
    from pathlib import Path

_ELSEWHERE = "choose another directory with `ENVBOOT_STATE_DIR`"


def check_state(name: str, state: Path, *, each: int, count: int) -> Check:
    """Check that `count` instances can be made there, which usually take `each` bytes.

    A file is written for that and removed. Too little space is a warning: environments differ.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state) as file:
            file.write(b"A probe of `envboot doctor`\n")
            file.flush()
        free = shutil.disk_usage(state).free
    except OSError as error:
        detail = f"Cannot write to `{state}`: {error.strerror or error}"
        hint = f"Check its permissions and free space, or {_ELSEWHERE}"
        return Check(name=name, status="failed", detail=detail, hint=hint)
    detail = f"{free / 1e9:,.1f} GB free in `{state}`"
    if free >= each * count:
        return Check(name=name, status="ok", detail=detail)
    wanted = f"{each * count / 1e9:,.1f} GB"
    return Check(
        name=name,
        status="warning",
        detail=f"{detail}; {count} instances usually take {wanted}"
        if count > 1
        else f"{detail}; an instance usually takes {wanted}",
        hint=f"Free some space, or {_ELSEWHERE}",
    )
