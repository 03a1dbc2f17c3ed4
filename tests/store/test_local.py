"""What only the bucket that is a folder must get right."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import stat
import struct
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from envboot.errors import StoreError, UsageError
from envboot.store.local.store import LocalStore
from tests.store.guest import Guest, ask, hang_up_during_put, post

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.sockets


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    return secret


@pytest.mark.parametrize(
    "url", ["file://", "file:///", "file://host/folder", "file:relative", "file:///a%00b"]
)
def test_a_url_without_a_folder_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="Expected a folder"):
        LocalStore(url)


def test_a_folder_may_have_odd_characters(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}/with%20space/ü#?") as store:
        store.create("key", b"x")
    assert (tmp_path / "with space" / "ü#?" / "key").read_bytes() == b"x"


def test_the_folder_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with LocalStore(f"file://{tmp_path}/link") as store:
        assert store.create("a/b", b"x")
        assert store.read("a/b") == b"x"


def test_reading_alone_makes_no_folder(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}/absent") as store:
        assert store.find("key") is None
        assert list(store.list("")) == []
    assert not (tmp_path / "absent").exists()


def test_only_the_owner_may_read_the_signing_key(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with LocalStore(f"file://{tmp_path}") as store:
            store.create("key", b"x")
            store.sign_get("key", 60)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / ".envboot-key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o666


def test_eight_stores_of_one_folder_agree_on_the_signing_key(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    secrets: list[bytes] = []

    def open_one() -> None:
        store = LocalStore(f"file://{tmp_path}/new")
        start.wait()
        secrets.append(store._folder.secret())

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secrets) == 8
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 64


def test_another_server_on_the_same_port_honours_older_urls(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as first:
        first.create("key", b"x")
        url = first.sign_get("key", 60)
    port = urlsplit(url).port
    assert port
    with LocalStore(f"file://{tmp_path}", port=port) as second:
        second.serve()
        assert ask("GET", url).body == b"x"


def test_another_folders_key_signs_nothing_here(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}/a") as one, LocalStore(f"file://{tmp_path}/b") as two:
        one.create("key", b"x")
        here, there = urlsplit(one.sign_get("key", 60)), urlsplit(two.sign_get("key", 60))
        assert ask("GET", there._replace(netloc=here.netloc).geturl()).status == 403


def test_the_guest_may_call_the_loopback_by_another_name(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}", guest_loopback="10.0.2.2") as store:
        store.create("key", b"x")
        url = urlsplit(store.sign_get("key", 60))
        assert url.hostname == "10.0.2.2"
        assert urlsplit(store.sign_put("new", 60).url).hostname == "10.0.2.2"
        assert urlsplit(store.sign_post("r/", 60, 10).url).hostname == "10.0.2.2"
        local = url._replace(netloc=f"127.0.0.1:{url.port}").geturl()
        assert ask("GET", local).body == b"x"


def test_the_end_of_the_context_cuts_open_connections(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        store.create("key", b"x")
        url = store.sign_get("key", 60)
        guest = Guest(url)
        assert guest.ask("GET", url).status == 200
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        guest.ask("GET", url)
    with pytest.raises(ConnectionRefusedError):
        ask("GET", url)


def test_a_taken_port_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as first:
        port = first.serve().server_port
        with pytest.raises(StoreError, match="Failed to serve") as caught:
            LocalStore(f"file://{tmp_path}", port=port).serve()
    assert "Address already in use" in caught.value.causes[0]
    assert caught.value.hint
    assert "port" in caught.value.hint


@pytest.mark.parametrize(
    "path",
    [
        "/../outside/file",
        "/%2e%2e/outside/file",
        "/..%2foutside%2ffile",
        "/a/%2e%2e/%2e%2e/outside/file",
        "/%252e%252e/outside/file",
        "//outside/file",
        "/.envboot-key",
        "/%2eenvboot-key",
        "/key%00",
        "/%ff%fe",
    ],
)
def test_no_path_leads_out_of_the_folder(tmp_path: Path, outside: Path, path: str) -> None:
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        store.create("key", b"x")
        url = urlsplit(store.sign_get("key", 60))
        answer = ask("GET", url._replace(path=path).geturl())
        assert answer.status in (400, 403)
        assert b"secret" not in answer.body


def test_a_key_that_was_signed_by_mistake_still_leads_nowhere(
    tmp_path: Path, outside: Path
) -> None:
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        server = store.serve()
        for key in ("../outside/file", ".envboot-key", f"{outside}/file"):
            target = server.signer.sign("GET", key, 1 << 40)
            answer = ask("GET", f"http://127.0.0.1:{server.server_port}{target}")
            assert answer.status in (400, 403)
            assert answer.code in ("InvalidURI", "SignatureDoesNotMatch")


@pytest.mark.parametrize("key", ["link", "folder/file", "dangling", "folder/new"])
def test_symbolic_links_lead_nowhere(tmp_path: Path, outside: Path, key: str) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    (bucket / "link").symlink_to(outside / "file")
    (bucket / "folder").symlink_to(outside)
    (bucket / "dangling").symlink_to(outside / "absent")
    with LocalStore(f"file://{bucket}") as store:
        for attempt in (store.find, store.read, store.delete, lambda key: store.create(key, b"x")):
            with pytest.raises(StoreError, match="Failed to"):
                attempt(key)
        assert ask("GET", store.sign_get(key, 60)).status == 400
        put = store.sign_put(key, 60)
        assert ask("PUT", put.url, body=b"x", headers=put.headers).status == 400
        assert list(store.list("")) == []
    assert files(outside) == ["file"]
    assert (outside / "file").read_bytes() == b"secret"


@pytest.mark.parametrize("name", ["../../../outside/new", "..", "", "a//b", ".envboot-key", "n\0"])
def test_a_form_cannot_leave_the_folder(tmp_path: Path, outside: Path, name: str) -> None:
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        form = store.sign_post("reports/one/", 60, 1000)
        secret = (tmp_path / "bucket" / ".envboot-key").read_bytes()
        assert post(form, form.prefix + name, b"x").status == 400
        assert (tmp_path / "bucket" / ".envboot-key").read_bytes() == secret
    assert files(tmp_path) == ["bucket", "bucket/.envboot-key", "outside", "outside/file"]


def test_a_form_with_other_fields_is_refused_as_s3_would(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        form = store.sign_post("reports/", 60, 1000)
        answer = post(form, "reports/a", b"x", acl="public-read")
        assert (answer.status, answer.code) == (403, "AccessDenied")


def test_an_upload_without_length_is_refused(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        put = store.sign_put("key", 60)
        url = urlsplit(put.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        headers = put.headers | {"Transfer-Encoding": "chunked"}
        target = f"{url.path}?{url.query}"
        connection.request("PUT", target, iter([b"x"]), headers, encode_chunked=True)
        assert connection.getresponse().status == 411
        connection.close()
        assert store.find("key") is None


def test_an_interrupted_upload_leaves_no_file_at_all(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        put = store.sign_put("key", 60)
        hang_up_during_put(put.url, put.headers, sent=bytes(300_000), promised=1_000_000)
        # The server may not have begun yet: quiet for half a second is what counts.
        end, quiet = time.monotonic() + 10, 0
        while quiet < 10 and time.monotonic() < end:
            quiet = quiet + 1 if len(files(tmp_path)) == 1 else 0
            time.sleep(0.05)
    assert files(tmp_path) == [".envboot-key"]


def test_a_writer_that_fails_leaves_no_file_at_all(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(3 << 20))

    def full(sent: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with LocalStore(f"file://{tmp_path}/bucket") as store:
        with pytest.raises(StoreError, match="Failed to write") as caught:
            store.create("key", source, full)
        assert "No space left" in caught.value.causes[0]
    assert files(tmp_path / "bucket") == []


def test_a_key_below_an_object_is_an_error_not_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        store.create("a", b"x")
        with pytest.raises(StoreError, match=r"Failed to write `file:.*a/b`"):
            store.create("a/b", b"x")
        put = store.sign_put("a/b", 60)
        answer = ask("PUT", put.url, body=b"x", headers=put.headers)
        assert (answer.status, answer.code) == (500, "InternalError")
    assert capfd.readouterr().err == ""


def test_a_guest_that_is_killed_while_reading_leaves_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(64 << 20))
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        store.create("key", source)
        url = store.sign_get("key", 60)
        parts = urlsplit(url)
        guest = Guest(url)
        guest.connection.request("GET", f"{parts.path}?{parts.query}")
        guest.connection.getresponse().read(10)
        guest.connection.close()
        assert ask("GET", url, headers={"Range": "bytes=0-1"}).status == 206
    assert capfd.readouterr().err == ""


def test_a_guest_that_is_killed_between_requests_leaves_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        store.create("key", b"x")
        url = store.sign_get("key", 60)
        guest = Guest(url)
        guest.ask("GET", url)
        # Lingering for no time makes the close a reset, as the kernel does for the killed.
        linger = struct.pack("ii", 1, 0)
        guest.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        guest.connection.close()
        time.sleep(0.2)
        assert ask("GET", url).status == 200
    assert capfd.readouterr().err == ""


def test_a_body_that_stalls_is_cut_and_never_ends_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envboot.store.local.server._Handler.timeout", 0.3)
    source = tmp_path / "source"
    source.write_bytes(bytes(64 << 20))
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        store.create("key", source)
        url = store.sign_get("key", 60)
        parts = urlsplit(url)
        guest = Guest(url)
        guest.connection.request("GET", f"{parts.path}?{parts.query}")
        response = guest.connection.getresponse()
        time.sleep(1)
        with pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
        guest.connection.close()
    assert caught.value.partial.strip(b"\0") == b""


def test_head_is_answered_where_it_was_signed(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        store.create("key", b"12345")
        server = store.serve()
        address = f"http://127.0.0.1:{server.server_port}"
        with Guest(address) as guest:
            head = guest.ask("HEAD", address + server.signer.sign("HEAD", "key", 1 << 40))
            assert (head.status, head.headers["content-length"], head.body) == (200, "5", b"")
            missing = guest.ask("HEAD", address + server.signer.sign("HEAD", "no", 1 << 40))
            assert (missing.status, missing.body) == (404, b"")
            assert guest.ask("GET", store.sign_get("key", 60)).body == b"12345"


def test_foreign_and_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    with LocalStore(f"file://{tmp_path}") as store:
        store.create("a/key", b"x")
        store.sign_get("a/key", 60)
        (tmp_path / "a" / ".envboot-0123").write_bytes(b"unfinished")
        (tmp_path / "new\nline").write_bytes(b"")
        os.mkfifo(tmp_path / "pipe")
        assert [each.key for each in store.list("")] == ["a/key"]
        assert store.find("pipe") is None


def test_only_what_is_older_than_a_day_is_made_new(tmp_path: Path) -> None:
    store = LocalStore(f"file://{tmp_path}")
    now = time.time()
    for key, age in (("old", 2 * 86400), ("young", 3600)):
        store.create(key, b"x")
        os.utime(tmp_path / key, (now - age, now - age))
        store.renew(key)
    ages = {stat.key: now - stat.modified.timestamp() for stat in store.list("")}
    assert ages["old"] < 60
    assert 3500 < ages["young"] < 3700
