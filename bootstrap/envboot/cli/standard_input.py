"""What somebody pipes into `envboot launch`, for the command on the machines.

Many programs start others with an open pipe as their standard input, and never write to it nor
close it. So a pipe is read only if it says something, or ends, within a second.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from typing import TYPE_CHECKING

from envboot.cli import console
from envboot.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 1.0
"""Seconds within which a pipe must say something."""
LIMIT = 64 << 20
"""Bytes that are sent at most: each machine reads them from the bucket."""
_BLOCK = 1 << 20


def find_input(wanted: bool | None) -> Callable[[], bytes] | None:
    """Return what reads our standard input, None where it is nothing to send.

    With `wanted` it is read to its end, however long that takes, and with False never. Files are
    always read, terminals and devices only if it is wanted.

    Raises:
        UsageError: it is wanted, and closed.
    """
    if wanted is False:
        return None
    start = time.monotonic()
    try:
        number = sys.stdin.fileno()
        mode = os.fstat(number).st_mode
    except (AttributeError, OSError, ValueError):
        if wanted:
            raise UsageError("Cannot send standard input: it is closed") from None
        return None
    if stat.S_ISREG(mode) or wanted:
        return lambda: _read(number)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return lambda: _read_soon(number, start + PATIENCE)
    return None


def _read_soon(number: int, end: float) -> bytes:
    """Read a pipe, unless it says nothing until `end`."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(number, select.POLLIN | select.POLLHUP)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            console.print_warning(
                "standard input is an open pipe that says nothing: it is not sent. Add `--stdin` "
                "to wait for it, `--no-stdin` to ignore it"
            )
            return b""
    return _read(number)


def _read(number: int) -> bytes:
    """Read to the end.

    Raises:
        UsageError: there is more than may be sent.
    """
    blocks, size = [], 0
    # A pipe that its other end has made non-blocking is waited for.
    with contextlib.suppress(OSError):
        os.set_blocking(number, True)
    while block := os.read(number, _BLOCK):
        blocks.append(block)
        size += len(block)
        if size > LIMIT:
            raise UsageError(
                f"Cannot send standard input: it is larger than {LIMIT >> 20} MiB",
                hint="Put it into a file that is sent (`include` in `[tool.envboot]`) or into your "
                "bucket, and have the command read it there; `--no-stdin` sends nothing",
            )
    return b"".join(blocks)
