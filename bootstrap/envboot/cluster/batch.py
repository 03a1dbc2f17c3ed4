"""Many requests of one event loop, answered together: one call of an API for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

PAUSE = 0.02
"""Seconds for which the first of a batch waits for others."""


class Batch(Generic[_K, _V]):
    """Collects keys, and answers all that came within a moment by one call in a thread."""

    def __init__(self, answer: Callable[[list[_K]], Mapping[_K, _V]]) -> None:
        self._answer = answer
        self._waiting: dict[_K, asyncio.Future[_V]] = {}
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: _K) -> _V:
        """Return the answer for one key; what the call raises, everyone who waits for it gets."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(self._waiting[key])

    async def _run(self) -> None:
        await asyncio.sleep(PAUSE)
        waiting, self._waiting, self._task = self._waiting, {}, None
        try:
            answers = await asyncio.to_thread(self._answer, list(waiting))
        except BaseException as error:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for key, future in waiting.items():
            if not future.done():
                future.set_result(answers[key])
