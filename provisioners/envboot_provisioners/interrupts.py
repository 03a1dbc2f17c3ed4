"""Interrupts that wait until what a block starts has been written down."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Hold Ctrl-C and its relatives back until the block has ended.

    What a block starts is known only once it is written down: an interrupt between the two would
    leave a process that nobody ends. Signals that are ignored stay so. Only the main thread is
    ever interrupted, so elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, _: waiting.append(number))
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        if waiting:
            signal.raise_signal(waiting[0])
