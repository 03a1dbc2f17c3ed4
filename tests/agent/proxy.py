"""A proxy on loopback between a guest and its bucket that does what bad networks do."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


_OWN = ("Connection", "Content-Length", "Date", "Server", "Transfer-Encoding")


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `faults` say which do not get through.

    A fault is a pattern of `METHOD path`, how many requests it strikes, and what happens to
    them: a status to answer with, a status and S3's code as in `"400 ExpiredToken"`, `"cut"`
    (half the body arrives), `"hang up"` (nothing does) or `"lose the answer"` (the bucket did
    what it was asked, and nobody hears of it).

    Where it `keeps_host`, the bucket sees the proxy's own name, which whoever signs for the
    proxy has signed; else it sees its own, for URLs that were signed for the bucket.
    """

    daemon_threads = True

    def __init__(
        self,
        port: int,
        handler: type[Handler] | None = None,
        *,
        keeps_host: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__((host, 0), handler or Handler)
        self.upstream = port
        self.keeps_host = keeps_host
        self.faults: list[list[Any]] = []
        self.requests: list[str] = []
        self.lock = threading.Lock()

    def strike(self, pattern: str, times: int, what: int | str) -> None:
        """Add a fault."""
        self.faults.append([pattern, times, what])

    def find_fault(self, request: str) -> int | str | None:
        """Note a request and return what befalls it."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault[1] and re.search(fault[0], request):
                    fault[1] -= 1
                    what: int | str = fault[2]
                    return what
        return None

    def redirect(self, document: Any) -> Any:
        """Return grants whose URLs lead through this proxy."""
        if isinstance(document, dict):
            return {key: self.redirect(value) for key, value in document.items()}
        if isinstance(document, str):
            return document.replace(
                f"//127.0.0.1:{self.upstream}/", f"//127.0.0.1:{self.server_address[1]}/"
            )
        return document


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    """Passes one request on, unless a fault befalls it."""

    server: Proxy

    def do_GET(self) -> None:
        self._pass()

    def do_HEAD(self) -> None:
        self._pass()

    def do_DELETE(self) -> None:
        self._pass()

    def do_PUT(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        what = self.server.find_fault(f"{self.command} {urlsplit(self.path).path}")
        if what == "hang up":
            self.close_connection = True
            return
        status, _, code = str(what).partition(" ")
        if status.isdigit():
            code = code or ("SlowDown" if status == "503" else "Trouble")
            words = f"<Error><Code>{code}</Code><Message>Bad day</Message></Error>"
            self._answer(int(status), words.encode())
            return
        headers = dict(self.headers.items())
        if not self.server.keeps_host:
            del headers["Host"]
        refusal = self.admit(headers)
        if refusal:
            self._answer(*refusal)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            if what == "lose the answer":
                answer.read()
                self.close_connection = True
                return
            passed = {name: value for name, value in answer.headers.items() if name not in _OWN}
            number, data = self.judge(answer.status, answer.read())
            if "/permit-" in self.path:
                # What it grants leads through this proxy, too.
                data = self.server.redirect(data.decode()).encode()
            if self.command == "HEAD":
                passed["Content-Length"] = answer.headers.get("Content-Length", "0")
            self._answer(number, data, cut=what == "cut", headers=passed)

    def admit(self, headers: dict[str, str]) -> tuple[int, bytes] | None:
        """Return with what to refuse the request, None to pass it on with these headers."""

    def judge(self, status: int, data: bytes) -> tuple[int, bytes]:
        """Return what to answer where the bucket answered this."""
        return status, data

    def _answer(
        self, status: int, body: bytes, *, cut: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204 and "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut


AnyProxy = TypeVar("AnyProxy", bound=Proxy)


@contextlib.contextmanager
def run_proxy(port: int, *, keeps_host: bool = False) -> Iterator[Proxy]:
    """Run a proxy in front of a loopback port."""
    with running(Proxy(port, keeps_host=keeps_host)) as proxy:
        yield proxy


@contextlib.contextmanager
def running(server: AnyProxy) -> Iterator[AnyProxy]:
    """Let a proxy serve until the end of the context."""
    with server as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
