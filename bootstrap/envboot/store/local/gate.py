"""Bounds what strangers cost a server on loopback, which every user of this machine reaches.

A connection is a stranger's until it has shown a signature. Strangers are few at a time and have
little time; who waits longest makes room for the next, so that nobody can keep all others out.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

HEAD = 16 << 10
"""Bytes of a request's head at most: a signed URL has 4 KiB, if its key is as long as can be."""
STRANGERS, CONNECTIONS = 128, 4096
"""Connections at once without and with a signature, each with a thread of its own."""
GRACE, PATIENCE = 2.0, 10.0
"""Seconds that a stranger has when others wait, and at most."""
_TOO_LARGE = b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gate:
    """The open connections of one server."""

    def __init__(self) -> None:
        self._known: set[socket.socket] = set()
        # In the order in which they came.
        self._strangers: dict[socket.socket, float] = {}
        self._changed = threading.Condition()
        self._closed = False

    def enter(self, connection: socket.socket) -> bool:
        """Take in a connection, once there is room; False where it has to be refused."""
        with self._changed:
            while len(self._strangers) >= STRANGERS and not self._closed:
                self._expel(GRACE)
                self._changed.wait(0.02)
            if self._closed or len(self._strangers) + len(self._known) >= CONNECTIONS:
                return False
            self._strangers[connection] = time.monotonic()
            return True

    def admit(self, connection: socket.socket) -> None:
        """Note that a connection has shown a signature."""
        with self._changed:
            if self._strangers.pop(connection, None) is not None:
                self._known.add(connection)
                self._changed.notify()

    def leave(self, connection: socket.socket) -> None:
        """Forget a connection that ends."""
        with self._changed:
            self._strangers.pop(connection, None)
            self._known.discard(connection)
            self._changed.notify()

    def expel_late(self) -> None:
        """End those that have shown no signature in time."""
        with self._changed:
            self._expel(PATIENCE)

    def close(self) -> None:
        """End every connection, and take in no more."""
        with self._changed:
            self._closed = True
            for connection in (*self._strangers, *self._known):
                _end(connection)
            self._changed.notify()

    def _expel(self, seconds: float) -> None:
        last = time.monotonic() - seconds
        for connection, since in list(self._strangers.items()):
            if since > last:
                return
            # Its thread finds the end when it reads, and leaves.
            _end(connection)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class HeadTooLargeError(Exception):
    """A request's head has more bytes than any that is signed."""


class Reader:
    """What a client sends: its lines, which are a request's head, are bounded altogether."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.begin()

    def begin(self) -> None:
        """Begin with another request."""
        self._left = HEAD

    def readline(self, size: int = -1) -> bytes:
        """Read a line; raises `HeadTooLargeError`."""
        line: bytes = self._stream.readline(
            self._left + 1 if size < 0 else min(size, self._left + 1)
        )
        self._left -= len(line)
        if self._left < 0:
            raise HeadTooLargeError
        return line

    def read(self, size: int) -> bytes:
        """Read so many bytes of a body."""
        data: bytes = self._stream.read(size)
        return data

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return bool(self._stream.closed)


class GatedServer(ThreadingHTTPServer):
    """Answers on loopback until `close`; one thread a connection, as many as the gate lets in."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, handler: type[GatedHandler], port: int = 0) -> None:
        self.gate = Gate()
        super().__init__(("127.0.0.1", port), handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="envboot-server", daemon=True
        )
        self._thread.start()

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may wait for a resolver."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the connection, once there is room for one more."""
        if self.gate.enter(request):
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self.gate.leave(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End strangers that take too long: ten times a second."""
        self.gate.expel_late()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: it happens whenever a guest is killed."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop serving; connections that are still open are cut."""
        # First, since the thread may be waiting for room.
        self.gate.close()
        self.shutdown()
        self._thread.join()
        self.server_close()


class GatedHandler(BaseHTTPRequestHandler):
    """Reads requests whose heads are bounded, and keeps quiet."""

    protocol_version = "HTTP/1.1"
    server: GatedServer
    rfile: Any

    def setup(self) -> None:
        """Bound what is read as a request's head."""
        super().setup()
        self.rfile = Reader(self.rfile)

    def handle_one_request(self) -> None:
        """Answer one request."""
        self.rfile.begin()
        try:
            super().handle_one_request()
        except HeadTooLargeError:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.write(_TOO_LARGE)

    def version_string(self) -> str:
        """Name the server, without Python's version."""
        return "envboot"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: every refusal is told to the client, who may send thousands."""
