"""Machines of one launch that talk to each other, and to the client, by `ENVBOOT_PEERS`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from tests.boot.account import Account, open_vpc_account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

pytestmark = [
    pytest.mark.boot,
    pytest.mark.subprocess,
    pytest.mark.sockets,
    # py-rattler, in the stand-in for micromamba, has been seen to crash in a booted machine.
    pytest.mark.flaky(reruns=1, only_rerun=[r"micromamba failed \(-11\)"]),
]

COUNT, PORT = 3, 8000
CODE = f"""
import http.server, os, threading, time, urllib.request

rank, count = int(os.environ["ENVBOOT_RANK"]), int(os.environ["ENVBOOT_COUNT"])
peers = os.environ["ENVBOOT_PEERS"].split(",")
told, ended = threading.Event(), threading.Event()
answers = []

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/answers":
            told.wait()
        self.send_response(200)
        self.end_headers()
        said = " and ".join(answers) if self.path == "/answers" else f"{{rank}} of {{count}}"
        self.wfile.write(said.encode())
        if self.path == "/end":
            ended.set()

    def log_message(self, *words):
        pass

server = http.server.ThreadingHTTPServer((peers[rank], {PORT}), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for peer in peers:
    while True:
        try:
            answer = urllib.request.urlopen(f"http://{{peer}}:{PORT}/", timeout=10).read()
        except OSError:
            time.sleep(0.1)
        else:
            break
    answers.append(answer.decode())
told.set()
ended.wait()
print(rank, *peers)
"""


@pytest.fixture
def account(root: Path, tmp_path: Path) -> Iterator[Account]:
    """An account whose instances and whose user are in one VPC."""
    with open_vpc_account(root, tmp_path) as opened:
        yield opened


def test_machines_know_their_place_and_reach_each_other_and_the_client_them(
    account: Account,
) -> None:
    # In which they are ended, and envboot says what it has heard from them.
    limit = ["--timeout", "400"]
    words = ["--count", str(COUNT), *limit, "--", "python", "-c", CODE]
    with ThreadPoolExecutor(1) as pool:
        launching = pool.submit(account.launch, *words)
        while len(found := account.cloud.describe()) < COUNT:
            assert not launching.done(), launching.result()
            time.sleep(0.1)
        addresses = {each["PrivateIpAddress"] for each in found.values()}
        everyone = [f"{rank} of {COUNT}" for rank in range(COUNT)]
        # What each has heard from all, asked by the client, and then what each is.
        heard = [ask(launching, address, "answers") for address in addresses]
        assert heard == [" and ".join(everyone)] * COUNT
        assert sorted(ask(launching, address, "end") for address in addresses) == everyone
        launched = launching.result()
    outputs = sorted(each["output"].split() for each in launched["instances"])
    assert [rank for rank, *_ in outputs] == [str(rank) for rank in range(COUNT)]
    (peers,) = {tuple(peers) for _, *peers in outputs}
    assert set(peers) == addresses
    where = {name: each["PrivateIpAddress"] for name, each in found.items()}
    for each in launched["instances"]:
        assert peers[int(each["output"].split()[0])] == where[each["name"]]


def ask(launching: Future[dict[str, Any]], address: str, what: str) -> str:
    """Return what a machine answers, as soon as it does, while its launch lasts."""
    while True:
        with suppress(OSError), urlopen(f"http://{address}:{PORT}/{what}", timeout=60) as answer:
            return str(answer.read().decode())
        assert not launching.done(), launching.result()
        time.sleep(0.2)
