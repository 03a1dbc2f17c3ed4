"""The client's network fails while machines work: their work goes on, and so does the launch."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from envboot.errors import StoreError
from envboot.fleet import watch
from envboot.fleet.watch import Fleet, Goal, wait
from envboot.store import open_store
from envboot_provisioners import Instance
from tests.agent.proxy import Proxy, run_proxy
from tests.servers import s3_bucket, s3_server
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envboot.errors import EnvbootError
    from envboot.fleet.outcomes import Outcome
    from envboot.store.protocol import Store
    from tests.servers import S3Server

__all__ = ["s3_bucket", "s3_server"]

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]

RESULT = {"outcome": "ready", "source": "archive", "stages": [], "errors": []}
COMMAND = {"exit_code": 0, "ms": 1, "output": "", "offset": 0, "end": 0}


class Looker:
    def __init__(self) -> None:
        self.errors: list[str] = []
        self.looks = 0
        self.seen = threading.Event()

    def progress(self, outcomes: Sequence[Outcome]) -> None:
        self.looks += 1

    def silence(self, error: EnvbootError, seconds: float) -> None:
        self.errors.append(error.message)
        self.seen.set()


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    port = int(s3_server.endpoint.rpartition(":")[2])
    with run_proxy(port, keeps_host=True) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{running.server_address[1]}")
        # Retries of the SDK itself only take longer.
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield running


@pytest.fixture
def store(proxy: Proxy, s3_bucket: str) -> Iterator[Store]:
    with open_store(f"s3://{s3_bucket}/silence", make_session()) as opened:
        yield opened


def make_fleet(store: Store) -> Fleet:
    fleet = Fleet(launch="one", store=store, provisioner=None, count=1, command=True, is_ours=True)
    fleet.add([Instance(name="one-0", launch="one")])
    return fleet


def report(store: Store, number: int, event: str, document: object) -> None:
    key = f"reports/one/events/one-0/176400000000{number}-{event}.json"
    store.create(key, json.dumps(document).encode())


@pytest.mark.parametrize("what", [503, "hang up", "403 AccessDenied"])
def test_a_look_that_fails_is_no_news(
    store: Store, proxy: Proxy, what: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_LONGEST", 0.2)
    report(store, 1, "result", RESULT)
    looker = Looker()
    proxy.strike(r"GET /[^/]+/?$", 1_000, what)

    def mend() -> None:
        looker.seen.wait(60)
        proxy.faults.clear()
        report(store, 2, "command", COMMAND)

    mending = threading.Thread(target=mend)
    mending.start()
    (outcome,) = wait(make_fleet(store), Goal.DONE, timeout=None, looker=looker)
    mending.join()
    assert outcome.reports.command
    assert looker.errors
    assert looker.looks


def test_a_bucket_that_never_answers_is_an_error_when_the_time_is_over(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_LONGEST", 0.2)
    proxy.strike(r"GET /[^/]+/?$", 1_000, 503)
    looker, start = Looker(), time.monotonic()
    with pytest.raises(StoreError):
        wait(make_fleet(store), Goal.DONE, timeout=2, looker=looker)
    assert time.monotonic() - start >= 2
    assert looker.errors
