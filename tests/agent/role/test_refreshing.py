"""When the agent asks for its role's credentials, and that nothing else sees the token."""

from __future__ import annotations

import json
import time

import pytest

from envboot.agent import aws
from envboot.agent.wire import AgentError

NOW = 1_800_000_000.0


class Metadata(aws.Metadata):
    """A service of which a test says what it has; counts how often it is asked for credentials."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self.seconds = seconds
        self.asked = 0

    def find(self, path: str) -> str:
        """Return the role's name, or credentials that end so many seconds after NOW."""
        if self.seconds is None:
            raise AgentError("out of reach")
        if path == aws.ROLE:
            return "guest\n"
        self.asked += 1
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW + self.seconds))
        keys = {"AccessKeyId": str(self.asked), "SecretAccessKey": "s", "Token": "t"}
        return json.dumps({**keys, "Expiration": end})


def make_role(seconds: float | None) -> tuple[aws.Role, Metadata]:
    role, metadata = aws.Role(), Metadata(seconds)
    role.metadata = metadata
    return role, metadata


def test_credentials_are_kept_until_some_minutes_before_their_end() -> None:
    role, metadata = make_role(3600)
    for now in (NOW, NOW + 1000, NOW + 2999):
        assert role.read(now)["AccessKeyId"] == "1"
    metadata.seconds = 7200
    assert role.read(NOW + 3001)["AccessKeyId"] == "2"
    assert role.read(NOW + 6500)["AccessKeyId"] == "2"


@pytest.mark.parametrize("seconds", [300, -3600])
def test_a_clock_that_is_ahead_does_not_ask_with_every_request(seconds: float) -> None:
    role, metadata = make_role(seconds)
    for now in (NOW, NOW + 1, NOW + 59):
        role.read(now)
    assert metadata.asked == 1
    role.read(NOW + 61)
    assert metadata.asked == 2


def test_a_service_that_does_not_answer_again_leaves_the_credentials_that_are_still_good() -> None:
    role, metadata = make_role(3600)
    assert role.read(NOW)["AccessKeyId"] == "1"
    metadata.seconds = None
    assert role.read(NOW + 3100)["AccessKeyId"] == "1"
    metadata.seconds = 7200
    assert role.read(NOW + 3120)["AccessKeyId"] == "1", "it is not asked at once"
    assert role.read(NOW + 3161)["AccessKeyId"] == "2"


def test_who_has_waited_in_vain_once_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    role, metadata = make_role(None)
    for _ in range(2):
        with pytest.raises(AgentError, match="out of reach"):
            role.read(NOW)
    assert len(waits) == aws.TRIES - 1
    metadata.seconds = 3600
    assert role.read(NOW)["AccessKeyId"] == "1"


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://b.s3.test/team/base/x", True),
        ("https://b.s3.test/team", False),
        ("https://b.s3.test/other/base/x", False),
        ("https://b.s3.test.evil.test/team/x", False),
        ("http://b.s3.test/team/x", False),
        ("https://files.test/uv.whl", False),
    ],
)
def test_only_what_begins_with_the_buckets_url_is_signed(url: str, signed: bool) -> None:
    seen: list[dict[str, str]] = []

    def exchange(*words: object) -> tuple[int, bytes, dict[str, str | None]]:
        seen.append(words[3])  # type: ignore[arg-type]
        return 200, b"", {"Date": None}

    auth = {"kind": "aws", "region": "r", "url": "https://b.s3.test/team/"}
    report = {"url": "https://b.s3.test/team/reports/launch/"}
    signer = aws.Signer({"auth": auth, "report": report}, exchange)
    signer.role, _ = make_role(time.time() - NOW + 3600)
    assert signer("GET", url, None, {"Range": "bytes=0-0"})[0] == 200
    assert ("Authorization" in seen[0], "X-Amz-Security-Token" in seen[0]) == (signed, signed)
    assert seen[0]["Range"] == "bytes=0-0"
