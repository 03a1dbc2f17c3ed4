"""Whether what is recorded of a launch is on this machine, and in this state directory."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from envboot.errors import UnseenError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def find_own_place(state: Path) -> dict[str, str]:
    """Return where instances are that are processes of this machine."""
    return {"host": socket.gethostname(), "folder": str(state.resolve())}


def check_own_place(launch: str, place: Mapping[str, str], state: Path) -> None:
    """Check that a launch of which nothing is here was made here.

    Raises:
        UnseenError: it was made elsewhere, or its record does not say where.
    """
    own = find_own_place(state)
    if all(place.get(name) == own[name] for name in own):
        return
    if not place.keys() >= own.keys():
        why = "It is not from this state directory, and its record does not say from which"
        raise UnseenError(launch, why, hint="Look where it was launched")
    raise UnseenError(
        launch,
        f"It is not from here, but from `{place['folder']}` on `{place['host']}`",
        hint=f"On `{place['host']}`, set `ENVBOOT_STATE_DIR={place['folder']}`",
    )
