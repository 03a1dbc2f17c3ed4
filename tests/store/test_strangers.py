"""What a stranger can do to the local store's server: nothing that others would notice."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from envboot.store.local import gate, server
from envboot.store.local.store import LocalStore
from tests.store.guest import Guest, ask, post

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.sockets


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(f"file://{tmp_path}/bucket") as made:
        made.create("key", b"content")
        yield made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers have a tenth of the time, so that the tests have."""
    monkeypatch.setattr(gate, "GRACE", 0.2)
    monkeypatch.setattr(gate, "PATIENCE", 1.0)


def dial(store: LocalStore) -> socket.socket:
    return socket.create_connection(("127.0.0.1", store.serve().server_port), 20)


def read_to_end(stream: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while block := stream.recv(65536):
            data += block
    return data


def count_threads() -> int:
    return sum("process_request" in thread.name for thread in threading.enumerate())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("begin", [b"", b"GET", b"GET /key HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n"])
def test_one_who_sends_slowly_is_cut(store: LocalStore, begin: bytes) -> None:
    with dial(store) as stream:
        start = time.monotonic()
        stream.sendall(begin)
        with contextlib.suppress(OSError):
            while time.monotonic() - start < 10:
                stream.sendall(b"x")
                stream.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not stream.recv(1):
                        break
        assert 0.5 < time.monotonic() - start < 5


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("words", ["PUT /new", "POST /", "DELETE /key", "GET /key"])
def test_an_endless_body_without_a_signature_is_neither_read_nor_kept(
    store: LocalStore, words: str
) -> None:
    kind = "Content-Type: multipart/form-data; boundary=x"
    for length in ("999999999999999999", "9" * 5000, "99999999", "-1", "1e9", "\u0661"):
        with dial(store) as stream:
            head = f"{words} HTTP/1.1\r\n{kind}\r\nContent-Length: {length}\r\n\r\n".encode()
            start, sent = time.monotonic(), 0
            with contextlib.suppress(OSError):
                stream.sendall(head)
                while sent < 64 << 20:
                    sent += stream.send(bytes(65536))
            # What is read for the sake of an answer, and what the kernel holds.
            assert sent < 32 << 20
            assert time.monotonic() - start < 8
    assert store.read("key") == b"content"
    assert store.read("new") is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET /key HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
        b"GET /key HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(10_000)),
        b"GET /key HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n",
        b"GET /" + b"k" * 100_000 + b" HTTP/1.1\r\n",
    ],
    ids=["headers", "different headers", "long header", "long path"],
)
def test_a_large_head_is_refused_early(store: LocalStore, head: bytes) -> None:
    with dial(store) as stream:
        with contextlib.suppress(OSError):
            stream.sendall(head + b"\r\n")
        assert read_to_end(stream)[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 414", b"")
    assert ask("GET", store.sign_get("key", 60)).body == b"content"


@pytest.mark.usefixtures("hasty")
def test_many_who_say_nothing_keep_nobody_out(store: LocalStore, tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    url, put = store.sign_get("key", 60), store.sign_put("large", 60)
    silent = [dial(store) for _ in range(gate.STRANGERS * 3)]
    try:
        start = time.monotonic()
        assert ask("GET", url).body == b"content"
        assert ask("PUT", put.url, body=bytes(8 << 20), headers=put.headers).status == 200
        assert time.monotonic() - start < 10
        assert count_threads() <= gate.STRANGERS + 10
    finally:
        for stream in silent:
            stream.close()


@pytest.mark.usefixtures("hasty")
def test_one_with_a_signature_may_take_its_time(store: LocalStore) -> None:
    put = store.sign_put("slow", 60)
    url = urlsplit(put.url)
    with dial(store) as stream, Guest(store.sign_get("key", 60)) as other:
        lines = [f"PUT {url.path}?{url.query} HTTP/1.1", "Content-Length: 30"]
        lines += [f"{name}: {value}" for name, value in put.headers.items()]
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        for _ in range(30):
            time.sleep(0.1)
            stream.sendall(b"x")
        assert stream.recv(99).startswith(b"HTTP/1.1 200")
        # A connection that is kept alive between requests, too.
        for _ in range(2):
            assert other.ask("GET", store.sign_get("key", 60)).body == b"content"
            time.sleep(1.5)
    assert store.read("slow") == b"x" * 30


def test_a_form_is_checked_before_its_file_is_read(store: LocalStore) -> None:
    form = store.sign_post("reports/", 60, 1 << 20)
    assert post(form, "reports/a", bytes(1 << 20)).status == 204
    assert post(form, "reports/b", bytes((1 << 20) + 1)).status == 400
    for name, value in {"signature": "0" * 64, "policy": "e30="}.items():
        fields = {**form.fields, name: value}
        with dial(store) as stream:
            parts = [f'name="{key}"\r\n\r\n{text}' for key, text in fields.items()]
            parts += ['name="key"\r\n\r\nreports/c', 'name="file"; filename="x"\r\n\r\n']
            body = "".join(f"--x\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
            kind = "Content-Type: multipart/form-data; boundary=x"
            head = f"POST / HTTP/1.1\r\n{kind}\r\nContent-Length: {server.MAX_FORM}\r\n\r\n"
            stream.sendall((head + body).encode() + bytes(8192))
            assert stream.recv(99).startswith(b"HTTP/1.1 403")
    assert [stat.key for stat in store.list("reports/")] == ["reports/a"]


@pytest.mark.parametrize("body", [b"", b'name="file"', b"--x\r\n" * 20_000, os.urandom(200_000)])
def test_a_form_that_is_none_is_refused(store: LocalStore, body: bytes) -> None:
    with dial(store) as stream:
        kind = b"Content-Type: multipart/form-data; boundary=x"
        length = b"Content-Length: %d" % len(body)
        with contextlib.suppress(OSError):
            stream.sendall(b"\r\n".join([b"POST / HTTP/1.1", kind, length, b"", body]))
        assert stream.recv(99)[:11] == b"HTTP/1.1 40"


@pytest.mark.parametrize(
    "line", [b"GET //[ HTTP/1.1", b"GET /key?X-Envboot-Expires=" + b"9" * 5000 + b" HTTP/1.1"]
)
def test_what_is_malformed_is_refused_without_a_traceback(
    store: LocalStore, line: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with dial(store) as stream:
        stream.sendall(line + b"\r\nConnection: close\r\n\r\n")
        assert read_to_end(stream)[:11] == b"HTTP/1.1 40"
    assert capfd.readouterr().err == ""


def test_the_end_of_the_context_comes_also_while_strangers_wait(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        silent = [dial(store) for _ in range(gate.STRANGERS + 20)]
        start = time.monotonic()
    assert time.monotonic() - start < 5
    for stream in silent:
        stream.close()
