"""When the agent asks for its account's token, and that nothing else sees it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import aws, fetch, gcp
from envboot.agent.host import Host, write_json
from envboot.agent.wire import AgentError

if TYPE_CHECKING:
    from pathlib import Path

NOW = 5_000.0


class Metadata(gcp.Metadata):
    """A server of which a test says what it has; counts how often it is asked for a token."""

    def __init__(self, seconds: float | None, text: str = "") -> None:
        super().__init__()
        self.seconds = seconds
        self.text = text
        self.asked = 0

    def find(self, path: str) -> str:
        """Return a token that ends in so many seconds."""
        if self.seconds is None:
            raise AgentError("out of reach")
        assert path == gcp.ACCOUNT + "token"
        self.asked += 1
        token = {"access_token": str(self.asked), "expires_in": self.seconds}
        return self.text or json.dumps(token)


def make_account(seconds: float | None, text: str = "") -> tuple[gcp.Account, Metadata]:
    account, metadata = gcp.Account(), Metadata(seconds, text)
    account.metadata = metadata
    return account, metadata


def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    account, _ = make_account(3600)
    for now in (NOW, NOW + 1000, NOW + 3374):
        assert account.read(now) == "1"
    assert account.read(NOW + 3376) == "2"


@pytest.mark.parametrize("seconds", [100, -3600])
def test_a_token_that_has_ended_is_not_asked_for_with_every_request(seconds: float) -> None:
    account, metadata = make_account(seconds)
    for now in (NOW, NOW + 1, NOW + 59):
        account.read(now)
    assert metadata.asked == 1
    account.read(NOW + 61)
    assert metadata.asked == 2


def test_a_server_that_does_not_answer_again_leaves_the_token_that_is_still_good() -> None:
    account, metadata = make_account(3600)
    assert account.read(NOW) == "1"
    metadata.seconds = None
    assert account.read(NOW + 3400) == "1"
    metadata.seconds = 7200
    assert account.read(NOW + 3420) == "1", "it is not asked at once"
    assert account.read(NOW + 3461) == "2"


def test_who_has_waited_in_vain_once_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    account, metadata = make_account(None)
    for _ in range(2):
        with pytest.raises(AgentError, match="out of reach"):
            account.read(NOW)
    assert len(waits) == gcp.TRIES - 1
    metadata.seconds = 3600
    assert account.read(NOW) == "1"


def test_a_token_that_cannot_be_read_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", float)
    account, _ = make_account(3600, '{"access_token": "ya29.secret"}')
    with pytest.raises(AgentError, match="cannot be read") as caught:
        account.read(NOW)
    assert "ya29" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://storage.test/b/team/base/x", True),
        ("https://storage.test/b/team", False),
        ("https://storage.test/other/team/x", False),
        ("https://storage.test.evil.test/b/team/x", False),
        ("http://storage.test/b/team/x", False),
        ("https://files.test/uv.whl", False),
    ],
)
def test_only_what_begins_with_the_buckets_url_has_the_token(url: str, sent: bool) -> None:
    seen: list[dict[str, str]] = []

    def exchange(*words: object) -> tuple[int, bytes, dict[str, str | None]]:
        seen.append(words[3])  # type: ignore[arg-type]
        return 200, b"", {}

    signer = gcp.Signer({"auth": {"url": "https://storage.test/b/team/"}}, exchange)
    signer.account, _ = make_account(3600)
    headers = {"Range": "bytes=0-0"}
    assert signer("GET", url, None, headers)[0] == 200
    assert seen == [{**headers, "Authorization": "Bearer 1"} if sent else headers]
    assert headers == {"Range": "bytes=0-0"}


def test_a_redirect_elsewhere_goes_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    def exchange(
        method: str, url: str, body: object, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str | None]]:
        seen.append((url, headers))
        if len(seen) == 1:
            return 307, b"", {"Location": "https://evil.test/x"}
        return 200, b"data", {"Location": None}

    signer = gcp.Signer({"auth": {"url": "https://storage.test/b/"}}, exchange)
    signer.account, _ = make_account(3600)
    monkeypatch.setattr(fetch, "exchange", signer)
    monkeypatch.setattr(time, "sleep", float)
    assert fetch.read("https://storage.test/b/x") == b"data"
    assert seen[0][1] == {"Authorization": "Bearer 1"}
    assert seen[1] == ("https://evil.test/x", {})


@pytest.mark.parametrize("kind", [aws, gcp])
def test_requests_are_signed_once_however_often_the_grants_are_read(
    monkeypatch: pytest.MonkeyPatch, kind: Any, tmp_path: Path
) -> None:
    before = fetch.exchange
    monkeypatch.setattr(fetch, "exchange", before)
    host = Host(str(tmp_path))
    name = kind.__name__.rpartition(".")[2]
    auth = {"kind": name, "url": "https://b.test/", "region": "r"}
    grants = {"auth": auth, "report": {"url": "https://b.test/reports/launch/"}}
    write_json(f"{host.state}/grants.json", grants)
    for _ in range(2):
        host.read_grants()
    assert isinstance(fetch.exchange, kind.Signer)
    assert fetch.exchange.exchange is before
