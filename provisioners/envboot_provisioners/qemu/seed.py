"""Serves user-data to guests as cloud-init's NoCloud datasource reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot.store.local.gate import GatedHandler, GatedServer

if TYPE_CHECKING:
    from collections.abc import Mapping


class SeedServer(GatedServer):
    """Answers GET of exactly these paths, on a free port of the loopback.

    User-data may carry grants, and every user of this machine reaches the loopback, so the
    paths have to be ones that nobody guesses: knowing one is what a signature is elsewhere.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        super().__init__(_Handler)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.server_port


class _Handler(GatedHandler):
    server: SeedServer

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        if body is not None:
            self.server.gate.admit(self.connection)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        if body is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body or b"")
