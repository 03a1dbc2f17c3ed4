"""The local store's HTTP server: what S3 does with signed URLs, over one folder."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from email.message import Message
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from envboot.store.local.folder import CHUNK, ObjectFolder, OutsideError
from envboot.store.local.gate import GatedHandler, GatedServer
from envboot.store.local.signing import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from envboot.store.local.signing import UrlSigner

MAX_FORM = 16 << 20
"""Bytes of a whole form upload."""
FORM_HEAD = 64 << 10
"""Bytes of a form within which its policy and signature stand, which come before the file."""
DRAINED, LINGER = 1 << 20, 1.0
"""Bytes, and seconds, that a refused client without a signature may still send."""


_LENGTH = re.compile(r"[0-9]{1,18}")


class Server(GatedServer):
    """Serves a folder on loopback until `close`; one thread a connection."""

    def __init__(self, folder: ObjectFolder, signer: UrlSigner, port: int = 0):
        self.folder = folder
        self.signer = signer
        super().__init__(_Handler, port)


class _Handler(GatedHandler):
    disable_nagle_algorithm = True
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        self._answer(self._send_object)

    def do_HEAD(self) -> None:
        self._answer(self._send_object)

    def do_PUT(self) -> None:
        self._answer(self._receive_object)

    def do_POST(self) -> None:
        self._answer(self._receive_form)

    def do_DELETE(self) -> None:
        self._answer(self._remove_object)

    def _answer(self, respond: Callable[[], None]) -> None:
        length = self.headers.get("Content-Length", "")
        self.unread = int(length) if _LENGTH.fullmatch(length) else 0
        self.signed = False
        try:
            respond()
        except RefusedError as refused:
            self._refuse(refused)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except ValueError:
            self._refuse(RefusedError(400, "InvalidRequest", "The request is malformed"))
        except OutsideError:
            self._refuse(RefusedError(400, "InvalidURI", "The key is not acceptable"))
        except OSError as error:
            self._refuse(RefusedError(500, "InternalError", error.strerror or "Unknown"))
        if self.unread:
            self.close_connection = True
        if self.close_connection and not self.signed:
            self._linger()

    def _linger(self) -> None:
        """Let a refused client read the answer: closed at once, it would see a broken pipe."""
        end, left = time.monotonic() + LINGER, DRAINED
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (seconds := end - time.monotonic()) > 0:
                self.connection.settimeout(seconds)
                if not (data := self.connection.recv(65536)):
                    break
                left -= len(data)

    def _refuse(self, refused: RefusedError) -> None:
        # A client that is still sending sees a broken pipe, not the answer, if nobody reads.
        if refused.signed:
            self._admit()
        if self.signed:
            with contextlib.suppress(ConnectionError, TimeoutError):
                while self._read():
                    pass
        words = f"<Code>{refused.code}</Code><Message>{escape(refused.message)}</Message>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{words}</Error>'.encode()
        self._start(refused.status, len(body), {"Content-Type": "application/xml"})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def _read(self, most: int = CHUNK) -> bytes:
        data: bytes = self.rfile.read(min(most, self.unread))
        if self.unread and not data:
            raise ConnectionAbortedError("The client went away in the middle of its upload")
        self.unread -= len(data)
        return data

    def _permitted_key(self) -> str:
        url = urlsplit(self.path)
        key = unquote(url.path)[1:]
        self.server.signer.check(self.command, key, url.query, self.headers, time.time())
        self._admit()
        return key

    def _admit(self) -> None:
        """Note that the client has shown a signature: it may take its time."""
        self.signed = True
        self.server.gate.admit(self.connection)

    def _send_object(self) -> None:
        key = self._permitted_key()
        file = self.server.folder.open(key)
        if file is None:
            raise RefusedError(404, "NoSuchKey", "The specified key does not exist.")
        with file:
            found = os.fstat(file.fileno())
            start, end = 0, found.st_size
            headers = {
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
                "Last-Modified": formatdate(found.st_mtime, usegmt=True),
            }
            span = parse_range(self.headers.get("Range", ""), found.st_size)
            if span:
                start, end = span
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.st_size}"
            self._start(206 if span else 200, end - start, headers)
            if self.command == "GET" and end > start:
                self.connection.sendfile(file, start, end - start)

    def _receive_object(self) -> None:
        key = self._permitted_key()
        exists = RefusedError(412, "PreconditionFailed", "The object is already there")
        self._require_length()
        if self.server.folder.find(key):
            raise exists
        if not self.server.folder.create(key, self._copy_body):
            raise exists
        self._start(200, 0)

    def _remove_object(self) -> None:
        self.server.folder.delete(self._permitted_key())
        self._start(204, 0)

    def _copy_body(self, file: BinaryIO) -> None:
        while data := self._read():
            file.write(data)

    def _require_length(self) -> None:
        if not _LENGTH.fullmatch(self.headers.get("Content-Length", "")):
            self.close_connection = True
            raise RefusedError(411, "MissingContentLength", "Content-Length is required")

    def _receive_form(self) -> None:
        self._require_length()
        if self.unread > MAX_FORM:
            raise RefusedError(400, "EntityTooLarge", f"At most {MAX_FORM} bytes are allowed")
        kind, body = self.headers.get("Content-Type", ""), b""
        while not _has_file(body) and self.unread:
            if len(body) > FORM_HEAD:
                raise RefusedError(400, "MalformedPOSTRequest", "The file is not the last field")
            body += self._read(8192)
        # Its signature is checked before there is memory for what it signs.
        self.server.signer.check_form(parse_form(kind, body), time.time())
        self._admit()
        form = parse_form(kind, b"".join([body, *iter(self._read, b"")]))
        key = self.server.signer.check_form(form, time.time())
        self.server.folder.replace(key, form["file"])
        self._start(204, 0)


def _has_file(body: bytes) -> bool:
    """Whether a form has come as far as the content of its file."""
    start = body.find(b'name="file"')
    return start >= 0 and body.find(b"\r\n\r\n", start) >= 0


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return start and end (exclusive) of a `Range`, None where it is absent or not one range.

    Raises:
        RefusedError: 416, the range begins behind the end.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RefusedError(416, "InvalidRange", f"The object has {size} bytes")
    return start, end


def parse_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Read `multipart/form-data`; fields behind `file` are left out, as S3 does.

    Raises:
        RefusedError: 400, it is not a form.
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or not boundary:
        raise RefusedError(400, "MalformedPOSTRequest", "Expected multipart/form-data")
    form: dict[str, bytes] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        if name and "file" not in form:
            form[name[1].decode(errors="replace")] = value
    return form
