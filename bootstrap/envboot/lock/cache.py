"""Answers that are kept for a day under the digest of their question."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from envboot.agent import wire
from envboot.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 24 * 3600
"""How long a lock stays, in seconds: relaunching the same thing gives the same machines."""


def keep_for_a_day(
    folder: Path, question: Any, answer: Callable[[], Any], *, fresh: bool = False
) -> Any:
    """Return the JSON answer kept for `question` in `folder`, else ask and keep it.

    `fresh` asks again. A cache that cannot be read or written costs time, never the answer.
    """
    file = folder / (wire.digest("request", question).partition(":")[2] + ".json")
    if not fresh:
        with contextlib.suppress(OSError, ValueError):
            if 0 <= time.time() - file.stat().st_mtime < DAY:
                return json.loads(file.read_bytes())
    found = answer()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(found).encode())
    return found
