"""Serves user-data to guests as cloud-init's NoCloud datasource reads it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class SeedServer:
    """Answers GET of exactly these paths, on a free port of the loopback.

    User-data may carry grants, and every user of this machine reaches the loopback, so the
    paths have to be ones that nobody guesses.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        handler = type("Handler", (_Handler,), {"files": dict(files)})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        arguments = {"poll_interval": 0.1}
        Thread(target=self._server.serve_forever, kwargs=arguments, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    files: Mapping[str, bytes]

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
