"""A bucket, or a proxy before it, that sends the agent elsewhere."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest

from envboot.agent import fetch, wire
from tests.certificates import make_certificate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.sockets


class BothSchemes:
    """One address that answers `http` with a redirect and `https` with an object."""

    def __init__(self, context: ssl.SSLContext, place: str) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        self._place = place.format(address=self.address)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            # The first byte of a TLS handshake.
            is_tls = link.recv(1, socket.MSG_PEEK) == b"\x16"
            self.asked.append("https" if is_tls else "http")
            if is_tls:
                link = self._context.wrap_socket(link, server_side=True)
            with link:
                link.recv(65536)
                head = b"HTTP/1.1 302 Found\r\nLocation: " + self._place.encode()
                if is_tls:
                    head = b"HTTP/1.1 200 OK"
                link.sendall(head + b"\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere")

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    return made


@pytest.mark.usefixtures("quick")
def test_an_address_is_followed_from_http_to_https(context: ssl.SSLContext) -> None:
    server = BothSchemes(context, "https://{address}/object")
    try:
        assert fetch.read(f"http://{server.address}/object") == b"here"
        assert server.asked == ["http", "https"]
    finally:
        server.close()


@pytest.mark.usefixtures("quick")
def test_an_address_that_leads_to_itself_is_given_up_in_words(context: ssl.SSLContext) -> None:
    server = BothSchemes(context, "http://{address}/object")
    try:
        with pytest.raises(wire.AgentError, match=r"unreachable: .* \(it leads on and on\)"):
            fetch.read(f"http://{server.address}/object")
    finally:
        server.close()
