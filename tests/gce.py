"""The fake Compute Engine on loopback, and the fixture that Google's clients find it by."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from tests.gce_api import ACCOUNT as ACCOUNT
from tests.gce_api import PROJECT as PROJECT
from tests.gce_api import REGION as REGION
from tests.gce_api import ZONES as ZONES
from tests.gce_api import Gce as Gce
from tests.gce_shapes import RefusedError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    gce: Gce

    def _any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        try:
            if parts.path == "/token":
                made: dict[str, Any] = {"access_token": "a-token", "expires_in": 3600}
            elif not _is_signed_in(self.headers.get("Authorization", ""), self.gce.tokens):
                raise RefusedError(401, "authError", "Invalid Credentials")
            elif parts.path.endswith(":testIamPermissions"):
                wanted = json.loads(body)["permissions"]
                made = {"permissions": [p for p in wanted if p not in self.gce.denied]}
            else:
                made = self.gce.answer(self.command, parts.path, parse_qs(parts.query), body)
            self._tell(200, made)
        except ConnectionAbortedError:
            self.close_connection = True
        except RefusedError as error:
            told = {"message": str(error), "domain": "global", "reason": error.reason}
            document = {"code": error.status, "message": str(error), "errors": [told]}
            self._tell(error.status, {"error": document})

    do_GET = do_POST = do_DELETE = _any

    def _tell(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _is_signed_in(header: str, tokens: Container[str]) -> bool:
    """Whether it is a good token, or, as the clients prefer it, a statement of the key's owner."""
    kind, _, token = header.partition(" ")
    if kind != "Bearer" or token in tokens:
        return kind == "Bearer"
    told: Any = jwt
    try:
        return bool(told.decode(token, verify=False)["iss"])
    except (ValueError, KeyError, GoogleAuthError):
        return False


@cache
def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@contextlib.contextmanager
def run_gce(folder: Path, host: str = "127.0.0.1") -> Iterator[Gce]:
    """Run the service, and write a service account's key that it gives tokens for."""
    server = ThreadingHTTPServer((host, 0), _Handler)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    key = folder / "key.json"
    key.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "1",
                "private_key": _private_key(),
                "client_email": ACCOUNT,
                "token_uri": f"{endpoint}/token",
            }
        )
    )
    gce = Gce(endpoint=endpoint, key=key)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"gce": gce})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield gce
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def gce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
    """A Compute Engine without faults and instances, which Google's clients find."""
    for name in ("CLOUDSDK_CORE_PROJECT", "CLOUDSDK_COMPUTE_ZONE", "CLOUDSDK_ACTIVE_CONFIGNAME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "gce"
    folder.mkdir()
    with run_gce(folder) as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made
