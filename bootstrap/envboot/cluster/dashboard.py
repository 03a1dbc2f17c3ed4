"""The dashboard, reached through this process: by a token here, by its certificate there.

The scheduler's HTTP wants a certificate of the cluster, which no browser has. So this process
listens on its own loopback, where every user of this machine could connect, and lets those in
who have the token of the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

HEAD = 64 << 10
"""Bytes that a request's head may have, and seconds that it may take."""
SECONDS = 10.0
_PARAMETER = "token"
_HOST = "127.0.0.1"


class Dashboard:
    """Listens on a free port of the loopback, and passes on what has the token.

    `find` returns the scheduler's host and the port of its HTTP.
    """

    def __init__(self, find: Callable[[], tuple[str, int]], context: ssl.SSLContext) -> None:
        self._find = find
        self._context = context
        self._token = secrets.token_urlsafe(24)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; raises OSError where no port is free."""
        self._server = await asyncio.start_server(self._answer, _HOST, 0, limit=HEAD)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no longer."""
        if self._server:
            self._server.close()

    def sign(self, link: str) -> str:
        """Return a link of this dashboard with the token that lets its reader in."""
        return f"{link}{'&' if '?' in link else '?'}{_PARAMETER}={self._token}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
            if given := self._find_token(head):
                writer.write(_let_in(head, f"{self._cookie}={given}"))
            elif self._has_cookie(head):
                await self._pass_on(head, reader, writer)
            else:
                writer.write(_respond("403 Forbidden", "Open the link of `cluster.dashboard_link`"))
            await writer.drain()
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            # Whoever asked has gone, or says nothing; or the scheduler has gone.
            pass
        finally:
            writer.close()

    @property
    def _cookie(self) -> str:
        # Cookies do not tell ports apart.
        return f"envboot-{self.port}"

    def _find_token(self, head: bytes) -> str | None:
        """Return the right token of a request's path, None where it has none."""
        query = dict(parse_qsl(urlsplit(_target(head)).query))
        return self._token if self._is_right(query.get(_PARAMETER, "")) else None

    def _has_cookie(self, head: bytes) -> bool:
        found = re.search(rb"(?i)\r\ncookie:([^\r]*)", head)
        pairs = (each.strip().partition(b"=") for each in (found[1] if found else b"").split(b";"))
        return any(
            name == self._cookie.encode() and self._is_right(value.decode("latin-1"))
            for name, _, value in pairs
        )

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port = self._find()
        try:
            there, back = await asyncio.open_connection(host, port, ssl=self._context)
        except OSError as error:
            writer.write(_respond("502 Bad Gateway", f"The scheduler does not answer: {error}"))
            return
        try:
            if not re.search(rb"(?i)\r\nupgrade:", head):
                # One request a connection: the next one could be another site's, without cookie.
                head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
                head = head[:-2] + b"Connection: close\r\n\r\n"
            back.write(head)
            up = asyncio.ensure_future(_copy(reader, back))
            await _copy(there, writer)
            up.cancel()
        finally:
            back.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Send on what comes until it ends."""
    with contextlib.suppress(OSError):
        while data := await source.read(HEAD):
            target.write(data)
            await target.drain()


def _target(head: bytes) -> str:
    """Return the path and query of a request."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    return words[1].decode("latin-1") if len(words) > 2 else ""


def _let_in(head: bytes, cookie: str) -> bytes:
    """Return the answer that keeps the token as a cookie and takes it out of the address.

    The way back is relative: a proxy may serve this below a path of its own.
    """
    url = urlsplit(_target(head))
    query = urlencode([pair for pair in parse_qsl(url.query) if pair[0] != _PARAMETER])
    place = (url.path.rpartition("/")[2] or ".") + (f"?{query}" if query else "")
    if not re.fullmatch(r"[\w.?=&%+~-]*", place, re.ASCII):
        place = "."
    lines = f"Location: {place}\r\nSet-Cookie: {cookie}; Path=/; HttpOnly; SameSite=Lax\r\n"
    return _respond("302 Found", "", lines)


def _respond(status: str, words: str, lines: str = "") -> bytes:
    body = f"{words}\n".encode()
    return (
        f"HTTP/1.1 {status}\r\n{lines}Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
    ).encode() + body
