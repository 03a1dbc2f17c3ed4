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


_PASSED = ("Last-Modified", "Location")


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `faults` say which do not get through.

    A fault is a pattern of `METHOD path`, how many requests it strikes, and what happens to
    them: a status to answer with, `"cut"` (half the body arrives), `"hang up"` (nothing does) or
    `"lose the answer"` (the bucket did what it was asked, and nobody hears of it).
    """

    daemon_threads = True

    def __init__(self, port: int, handler: type[Handler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.upstream = port
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
        if isinstance(what, int):
            code = "SlowDown" if what == 503 else "Trouble"
            words = f"<Error><Code>{code}</Code><Message>Bad day</Message></Error>"
            self._answer(what, words.encode())
            return
        headers = {key: value for key, value in self.headers.items() if key != "Host"}
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
            status, data = self.judge(answer.status, answer.read())
            passed = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
            self._answer(status, data, cut=what == "cut", headers=passed)

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
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut


AnyProxy = TypeVar("AnyProxy", bound=Proxy)


@contextlib.contextmanager
def run_proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy in front of a loopback port."""
    with running(Proxy(port)) as proxy:
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
