"""A publish that is told to stop: nothing half-made stays, here or in the bucket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import wire
from envboot.store.s3.store import S3Store
from tests.agent.guests import Guest, Launch, Parts, make_launch
from tests.reports import read_documents
from tests.servers import s3_bucket, s3_server  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envboot.store.local.store import LocalStore
    from envboot.store.protocol import Store

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
ENOUGH = 300_000


class Relay:
    """A wire to a loopback port on which an upload of an archive stands still half-way."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.half_way = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def redirect(self, document: Any) -> Any:
        """Return grants whose URLs lead over this wire."""
        if isinstance(document, dict):
            return {key: self.redirect(value) for key, value in document.items()}
        if isinstance(document, str):
            return document.replace(f"//127.0.0.1:{self.upstream}/", f"//127.0.0.1:{self.port}/")
        return document

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        passed, archive = 0, False
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # What was signed is the bucket's own name.
                host = f"Host: 127.0.0.1:{self.upstream}".encode()
                data = data.replace(f"Host: 127.0.0.1:{self.port}".encode(), host)
                archive = archive or (data[:4] == b"PUT " and b"env.tar.zst" in data[:500])
                target.sendall(data)
                passed += len(data)
                if archive and passed > ENOUGH:
                    self.half_way.set()
                    while source.recv(1, socket.MSG_PEEK) and source.fileno() >= 0:
                        time.sleep(0.05)
                        if not is_open(source):
                            break
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def is_open(link: socket.socket) -> bool:
    """Whether the other end of a connection, from which nothing is read, is still there."""
    state = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state == b"\x01"


@pytest.fixture(params=["local", "s3"])
def any_store(request: pytest.FixtureRequest, store: LocalStore) -> Iterator[tuple[Store, int]]:
    """A bucket of either kind, and the port of its server."""
    if request.param == "local":
        yield store, store.serve().server_port
        return
    bucket = request.getfixturevalue("s3_bucket")
    port = int(os.environ["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])
    with S3Store(f"s3://{bucket}/a", environment=os.environ) as opened:
        yield opened, port


def assert_stopped(guest: Guest, process: Any, store: Store, launch: Launch) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == wire.DEGRADED
    last = guest.events[-1]
    assert last["MESSAGE_ID"] == wire.MESSAGE_IDS["publish-failed"]
    assert last["ENVBOOT_ERROR"].startswith("interrupted: ")
    assert [path.name for path in guest.state.iterdir() if "zst" in path.name] == []
    assert list(guest.opt.glob("publish-*")), "for another try"
    names = {stat.key.rpartition("/")[2] for stat in store.list(f"{launch.base_key}/")}
    assert names == {"manifest.json"}
    assert "interrupted" in read_documents(store, "launch")["guest"]["publish"]["error"]


def test_half_an_upload_leaves_nothing(
    parts: Parts, any_store: tuple[Store, int], new_guest: NewGuest, tmp_path: Path
) -> None:
    store, port = any_store
    launch = make_launch(parts, store, tmp_path / "cache")
    relay = Relay(port)
    guest = new_guest("guest", replace(launch, grants=relay.redirect(launch.grants)))
    assert guest.boot() == wire.READY, guest.reasons
    permit = guest.state / "permit.json"
    direct = permit.read_text()
    permit.write_text(json.dumps(relay.redirect(json.loads(direct))))
    process = guest.start("publish")
    assert relay.half_way.wait(30)
    assert_stopped(guest, process, store, launch)
    guest.give(launch)
    permit.write_text(direct)
    assert guest.publish() == wire.READY
    assert store.find(f"{launch.base_key}/index.json")


def test_half_a_packing_leaves_nothing(
    launch: Launch, store: LocalStore, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.READY
    process = guest.start("publish")
    while not list(guest.state.glob("*.frames/*")):
        assert process.poll() is None
    # As systemd does: every process of the unit.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
    assert children
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGTERM)
    assert_stopped(guest, process, store, launch)
    assert guest.publish() == wire.READY
