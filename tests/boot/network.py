"""Network namespaces whose only way out is a list of ports of this process's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"
_LIBC = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")
_Carry: TypeAlias = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]"


class Namespace:
    """A nameless network namespace with its loopback up; it ends with its descriptor.

    The kernel gives namespaces to threads: everything that must happen inside runs in a
    thread of its own, which ends there.
    """

    def __init__(self, *addresses: str) -> None:
        """Make it, with `addresses` (`169.254.169.254/32`) on its loopback."""

        def make() -> int:
            _check(_LIBC.unshare(_NEWNET))
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            for address in addresses:
                subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
            if addresses:
                # Elsewhere they are no local ones: rules for them come before those of loopback.
                subprocess.run(["ip", "rule", "add", "pref", "100", "lookup", "local"], check=True)
                subprocess.run(["ip", "rule", "del", "pref", "0"], check=True)
            return os.open(_HERE, os.O_RDONLY)

        self.descriptor = _in_thread(make)

    @property
    def path(self) -> str:
        """A path to it that other processes can open while this one lives."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def run(self, function: Callable[[], _T]) -> _T:
        """Call a function inside: sockets it makes and processes it starts belong there."""

        def enter() -> _T:
            _check(_LIBC.setns(self.descriptor, _NEWNET))
            return function()

        return _in_thread(enter)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread inside until the end, and every thread and process it starts there."""
        before = os.open(_HERE, os.O_RDONLY)
        try:
            _check(_LIBC.setns(self.descriptor, _NEWNET))
            yield
        finally:
            _check(_LIBC.setns(before, _NEWNET))
            os.close(before)

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a listening socket inside; this process uses it from where it is."""
        return self.run(lambda: socket.create_server((host, port), backlog=64))

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(function: Callable[[], _T]) -> _T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


class Forwarder:
    """Carries connections from sockets inside a namespace to the same ports out here."""

    def __init__(self, namespace: Namespace, ports: tuple[int, ...]) -> None:
        self._listeners = {port: namespace.listen("127.0.0.1", port) for port in ports}
        self._loop = asyncio.new_event_loop()
        self._ready = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        servers = [
            await asyncio.start_server(_carry_to(port), sock=listener)
            for port, listener in self._listeners.items()
        ]
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def close(self) -> None:
        """End every connection."""
        self._loop.call_soon_threadsafe(lambda: self._stop.set())
        self._thread.join()
        self._loop.close()


def _carry_to(port: int) -> _Carry:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        writer.close()

    return carry


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()
