"""A metadata server as Compute Engine's, for one machine.

It answers what an SDK asks for its service account's token, and whatever a test puts into its
`tree`. `requests` keeps every request's path, so that a test can tell who asked for what.
https://docs.cloud.google.com/compute/docs/metadata/querying-metadata
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADDRESS = "169.254.169.254"
PROJECT = "team-project"
ZONE = "europe-west3-a"
ROOT = "/computeMetadata/v1/"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class GceMetadataServer:
    """Serves one instance's tree on a listening socket (which it closes at its end).

    `tree` has the leaves by their path below `computeMetadata/v1/` and may be changed while it
    serves: attributes (`instance/attributes/user-data`), a notice (`instance/preempted`), the
    service account. A leaf is text, or a function that makes it for each request, as for a token.
    `refusal` is a status to answer everything with.
    """

    def __init__(self, listener: socket.socket, *, instance: str = "guest") -> None:
        self.tree: dict[str, str | Callable[[], str]] = {
            "instance/hostname": f"{instance}.{ZONE}.c.{PROJECT}.internal",
            "instance/id": "1234567890123456789",
            "instance/name": instance,
            "instance/machine-type": "projects/1/machineTypes/e2-standard-2",
            "instance/zone": f"projects/1/zones/{ZONE}",
            "instance/preempted": "FALSE",
            "project/project-id": PROJECT,
            "project/numeric-project-id": "1",
        }
        self.requests: list[str] = []
        self.refusal: int | None = None
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer((ADDRESS, 80), handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.daemon_threads = True
        arguments = {"poll_interval": 0.05}
        self._thread = Thread(target=self._server.serve_forever, kwargs=arguments, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def give_account(self, email: str, token: Callable[[], dict[str, Any]], *scopes: str) -> None:
        """Let the machine have a service account; `token` returns the one that is given now."""
        for name in ("default", email):
            place = f"instance/service-accounts/{name}/"
            self.tree[place + "token"] = lambda: json.dumps(token())
            self.tree[place + "email"] = email
            self.tree[place + "aliases"] = "default"
            self.tree[place + "scopes"] = "".join(f"{scope}\n" for scope in scopes or (SCOPE,))

    def take_account(self) -> None:
        """Let the machine have no service account."""
        for path in [path for path in self.tree if path.startswith("instance/service-accounts/")]:
            del self.tree[path]

    def find(self, path: str, *, recursive: bool = False) -> str | None:
        """Return what a GET below `computeMetadata/v1/` answers; a folder answers its entries."""
        if path in self.tree:
            return self._read(path)
        folder = path.rstrip("/") + "/" if path else ""
        below = [leaf for leaf in self.tree if leaf.startswith(folder)]
        if not below:
            return None
        if recursive:
            return json.dumps(self._nest(folder, below))
        names = [leaf.removeprefix(folder) for leaf in below]
        entries = {name.partition("/")[0] + ("/" if "/" in name else "") for name in names}
        return "\n".join(sorted(entries)) + "\n"

    def _read(self, path: str) -> str:
        leaf = self.tree[path]
        return leaf if isinstance(leaf, str) else leaf()

    def _nest(self, folder: str, leaves: list[str]) -> dict[str, Any]:
        """Return a folder as one document; names become camelCase, but those of attributes."""
        document: dict[str, Any] = {}
        for path in leaves:
            if path.endswith("/token"):
                continue
            at = document
            *folders, name = path.removeprefix(folder).split("/")
            for each in folders:
                at = at.setdefault(_camel(each), {})
            value: Any = self._read(path)
            if name in ("scopes", "aliases"):
                value = value.split()
            at[name if "/attributes/" in path else _camel(name)] = value
        return document


@contextlib.contextmanager
def serve_gce_metadata() -> Iterator[tuple[GceMetadataServer, str]]:
    """Run the server of a machine without a service account on loopback; its host and port too."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = GceMetadataServer(listener)
    try:
        yield server, f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    service: GceMetadataServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.service.requests.append(parts.path)
        if self.service.refusal:
            self._answer(self.service.refusal, b"")
            return
        if self.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in self.headers:
            self._answer(403, b"Missing Metadata-Flavor:Google header.")
            return
        if parts.path in ("/", "/computeMetadata/"):
            self._answer(200, b"computeMetadata/\n")
            return
        recursive = parse_qs(parts.query).get("recursive", [""])[0].lower() == "true"
        path = parts.path.removeprefix(ROOT) if parts.path.startswith(ROOT) else "\0"
        found = self.service.find(path, recursive=recursive)
        is_json = recursive or parts.path.endswith("/token")
        kind = "application/json" if is_json else "application/text"
        self._answer(404 if found is None else 200, (found or "").encode(), kind)

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def _camel(name: str) -> str:
    return re.sub("-(.)", lambda found: found[1].upper(), name)
