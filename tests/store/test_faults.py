"""Sessions that end, clocks that are off, services that stumble, writers that race."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from botocore import auth
from botocore.compat import get_current_datetime

from envboot.errors import StoreError
from envboot.store import open_store
from tests.servers import ROLE
from tests.sessions import make_session
from tests.store.guest import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.protocol import Store
    from tests.agent.proxy import Proxy
    from tests.servers import S3Server, Session

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]

WEEK = 7 * 24 * 3600


CALLS: dict[str, Callable[[Store], object]] = {
    "find": lambda store: store.find("key"),
    "read": lambda store: store.read("key"),
    "create": lambda store: store.create("key", b"x"),
}


def use(session: Session, server: S3Server, patch: pytest.MonkeyPatch, *, told: bool) -> None:
    """Have boto3 find a session in the environment; `told` says also when it ends."""
    for name, value in server.environment(session).items():
        patch.setenv(name, value)
    if told:
        patch.setenv("AWS_CREDENTIAL_EXPIRATION", session.end.isoformat())


def shift(patch: pytest.MonkeyPatch, **by: float) -> None:
    """Put the clock that signs off."""
    patch.setattr(auth, "get_current_datetime", lambda *_: get_current_datetime() + timedelta(**by))


def test_a_session_whose_end_is_told_limits_what_it_signs(
    s3: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = s3_server.open_session(900)
    use(session, s3_server, monkeypatch, told=True)
    s3.create("key", b"x")
    with open_store(s3.url, make_session()) as store:
        limit = store.limits(WEEK)
        assert (limit.limited_by, limit.known) == ("credentials", True)
        assert limit.end == session.end == store.expiry(WEEK)
        assert store.limits(60).limited_by == "request"
        assert ask("GET", store.sign_get("key", WEEK)).body == b"x"


def test_a_session_whose_end_nobody_tells_is_said_to_be_one(
    s3: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3_server.open_session(900), s3_server, monkeypatch, told=False)
    with open_store(s3.url, make_session()) as store:
        limits = [store.limits(seconds) for seconds in (60, WEEK, WEEK + 1)]
    assert [limit.known for limit in limits] == [False] * 3
    assert [limit.limited_by for limit in limits] == ["request", "request", "seven days"]


def test_an_assumed_role_limits_what_it_signs(
    s3: Store, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = s3_server.admin
    (tmp_path / "config").write_text(
        f"[default]\nrole_arn = {ROLE}\nsource_profile = mine\nduration_seconds = 900\n"
        f"[profile mine]\naws_access_key_id = {who.access_key}\n"
        f"aws_secret_access_key = {who.secret_key}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_server.endpoint)
    with open_store(s3.url, make_session()) as store:
        left = store.limits(WEEK).end - datetime.now(timezone.utc)
        assert store.limits(WEEK).limited_by == "credentials"
        assert timedelta(minutes=14) < left <= timedelta(minutes=15)
        assert store.create("by-role", b"x")


def test_a_url_ends_with_the_session_that_signed_it(
    s3: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.create("key", b"x")
    session = s3_server.open_session()
    use(session, s3_server, monkeypatch, told=False)
    with open_store(s3.url, make_session()) as store:
        url = store.sign_get("key", 3600)
        assert ask("GET", url).status == 200
        time.sleep(max(0, (session.end - datetime.now(timezone.utc)).total_seconds()) + 1)
        assert ask("GET", url).status == 403
        with pytest.raises(StoreError) as caught:
            store.read("key")
    assert "InvalidAccessKeyId" in caught.value.causes[0]
    assert "session has ended" in str(caught.value.hint)


def test_a_session_that_is_known_to_have_ended_is_not_even_tried(
    s3: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = s3_server.open_session(900)
    use(session, s3_server, monkeypatch, told=False)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z")
    with open_store(s3.url, make_session()) as store:
        attempts: list[Callable[[], object]] = [
            lambda: store.read("key"),
            lambda: store.sign_get("key", 60),
        ]
        for attempt in attempts:
            with pytest.raises(StoreError) as caught:
                attempt()
            assert "still expired" in caught.value.causes[0]
            assert "aws sso login" in str(caught.value.hint)
        with pytest.raises(StoreError, match="Failed to sign for"):
            store.limits(60)


def test_amazons_word_for_a_session_that_has_ended_is_explained(s3: Store, proxy: Proxy) -> None:
    proxy.strike("GET .*/key", 1, "400 ExpiredToken")
    with open_store(s3.url, make_session()) as store, pytest.raises(StoreError) as caught:
        store.read("key")
    assert caught.value.causes == ("ExpiredToken: Bad day",)
    assert "session has ended" in str(caught.value.hint)


def test_a_url_that_was_signed_long_ago_is_refused(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.create("key", b"x")
    shift(monkeypatch, hours=-1)
    assert ask("GET", s3.sign_get("key", 3500)).status == 403
    assert ask("GET", s3.sign_get("key", 3700)).status == 200


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("method", CALLS)
def test_a_clock_that_is_an_hour_off_is_told(
    s3: Store, monkeypatch: pytest.MonkeyPatch, hours: int, method: str
) -> None:
    shift(monkeypatch, hours=hours)
    with pytest.raises(StoreError) as caught:
        CALLS[method](s3)
    assert caught.value.causes[0].startswith("RequestTimeTooSkewed: ")
    assert "Set this machine's clock" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["find", "read"])
def test_a_missing_object_that_may_not_be_told_from_a_forbidden_one_is_explained(
    s3: Store, proxy: Proxy, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    # What Amazon answers to an identity without s3:ListBucket; SeaweedFS says 404 to everybody.
    proxy.strike("(GET|HEAD) .*/key", 99, "403 AccessDenied")
    for name, value in s3_server.environment(s3_server.blind).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.server_address[1]}")
    with open_store(s3.url, make_session()) as store:
        assert store.create("other", b"x")
        with pytest.raises(StoreError, match="Failed to read") as caught:
            CALLS[method](store)
        with pytest.raises(StoreError) as listed:
            list(store.list(""))
    bucket = s3.url.split("/")[2]
    hint = str(caught.value.hint)
    assert f"`s3:GetObject` on `arn:aws:s3:::{bucket}/team/one/*`" in hint
    assert "A missing object is answered so too, unless it may `s3:ListBucket` on" in hint
    assert f"`s3:ListBucket` on `arn:aws:s3:::{bucket}`" in str(listed.value.hint)


@pytest.mark.parametrize("fault", ["503 SlowDown", "500 InternalError", "503 ServiceUnavailable"])
def test_a_burst_is_ridden_out(s3: Store, proxy: Proxy, tmp_path: Path, fault: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    s3.create("there", b"y")
    told: list[int] = []
    with open_store(s3.url, make_session()) as store:
        for method in ("PUT", "GET", "HEAD", "DELETE"):
            proxy.strike(f"{method} .*/(key|there|$)", 3, fault)
        assert store.create("key", source, told.append)
        assert told[-1] == 3_000_000
        assert store.read("there") == b"y"
        assert store.find("key")
        store.delete("there")
        assert store.find("there") is None
    assert all(left == 0 for _, left, _ in proxy.faults)


def test_a_service_that_only_stumbles_is_given_up_in_the_end(s3: Store, proxy: Proxy) -> None:
    proxy.strike("GET .*/key", 99, "503 SlowDown")
    with open_store(s3.url, make_session()) as store, pytest.raises(StoreError) as caught:
        store.read("key")
    assert caught.value.causes == ("SlowDown: Bad day",)
    assert caught.value.hint == "Try again in a minute"
    assert sum("/key" in request for request in proxy.requests) == 5


def test_a_write_whose_answer_was_lost_is_there_once(s3: Store, proxy: Proxy) -> None:
    proxy.strike("PUT .*/key", 1, "lose the answer")
    with open_store(s3.url, make_session()) as store:
        # The second try finds the first one's object: it is there, and that is what counts.
        assert store.create("key", b"x") is False
        assert store.read("key") == b"x"


def test_a_conflict_with_another_upload_is_tried_again(s3: Store, proxy: Proxy) -> None:
    proxy.strike("PUT .*/key", 2, "409 ConditionalRequestConflict")
    with open_store(s3.url, make_session()) as store:
        assert store.create("key", b"x") is True
    assert sum("PUT" in request for request in proxy.requests) == 3


WRITER = """
import json, sys, time
from envboot.session import open_session
from envboot.store import open_store
url, name, start = sys.argv[1:]
with open_store(url, open_session()) as store:
    store.find("warm")
    time.sleep(max(0, float(start) - time.time()))
    print(json.dumps([store.create(f"race/{n}", name.encode() * 100_000) for n in range(12)]))
"""


def test_of_two_processes_that_write_the_same_exactly_one_wins_each_time(s3: Store) -> None:
    start = str(time.time() + 4)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, s3.url, name, start], stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    one, two = (json.loads(writer.communicate(timeout=60)[0]) for writer in writers)
    assert [mine != others for mine, others in zip(one, two, strict=True)] == [True] * 12
    for number, won in enumerate(one):
        assert s3.read(f"race/{number}") == (b"a" if won else b"b") * 100_000
