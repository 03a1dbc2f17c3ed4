"""A guest's view of a bucket: the standard library, signed URLs, nothing else."""

from __future__ import annotations

import http.client
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

    from envboot.store.protocol import SignedPost

BOUNDARY = "b0undary"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One response, its body read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error document's code."""
        found = re.search(rb"<Code>(.*?)</Code>", self.body)
        return found[1].decode() if found else ""

    @property
    def message(self) -> str:
        """The error document's words."""
        found = re.search(rb"<Message>(.*?)</Message>", self.body)
        return found[1].decode() if found else ""


class Guest:
    """One connection, kept alive from request to request."""

    def __init__(self, url: str):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)

    def __enter__(self) -> Guest:  # noqa: PYI034
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request on the connection and read the whole answer."""
        parts = urlsplit(url)
        target = parts.path + ("?" + parts.query if parts.query else "")
        self.connection.request(method, target, body, headers or {})
        response = self.connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=named, body=response.read())


def ask(
    method: str, url: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """Send one request on a connection of its own."""
    with Guest(url) as guest:
        return guest.ask(method, url, body=body, headers=headers)


def post(form: SignedPost, key: str, data: bytes, **other: str) -> Answer:
    """Upload a form as S3 wants it: the key, the fields, last the file."""
    fields = {"key": key, **form.fields, **other}
    head = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = (head + file).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return ask("POST", form.url, body=body, headers=headers)


def hang_up_during_put(url: str, headers: dict[str, str], *, sent: bytes, promised: int) -> None:
    """Begin an upload of `promised` bytes and vanish after `sent`."""
    parts = urlsplit(url)
    lines = [f"PUT {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {promised}", "", ""]
    address = (parts.hostname or "", parts.port or 80)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode() + sent)
