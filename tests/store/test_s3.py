"""What only an S3 bucket must get right: credentials, regions, limits, and words for failures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from envboot.cli import cli, run
from envboot.config import S3Settings, Settings
from envboot.errors import StoreError, UsageError
from envboot.store import open_store
from envboot.store.protocol import Store
from envboot.store.s3.store import MAX_SINGLE_PUT
from tests.sessions import make_session
from tests.store.guest import ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import S3Server

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]

WEEK = timedelta(days=7)

Method = Callable[[Store], object]

METHODS: dict[str, Method] = {
    "find": lambda store: store.find("key"),
    "read": lambda store: store.read("key"),
    "create": lambda store: store.create("key", b"x"),
    "list": lambda store: list(store.list("key")),
    "delete": lambda store: store.delete("key"),
}
SIGNATURES: dict[str, Method] = {
    "sign_get": lambda store: store.sign_get("key", 60),
    "sign_put": lambda store: store.sign_put("key", 60),
    "sign_post": lambda store: store.sign_post("key/", 60, 10),
}
ALL = METHODS | SIGNATURES


def failure(url: str, method: Method) -> StoreError:
    with (
        open_store(url, make_session()) as store,
        pytest.raises(StoreError, match=r"`s3://[\w-]+") as caught,
    ):
        method(store)
    text = " ".join((caught.value.message, *caught.value.causes, caught.value.hint or ""))
    assert "Signature=" not in text
    assert "secret" not in text.replace("the secret key", "")
    return caught.value


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket/a?b", "s3://bucket/a#b"])
def test_a_url_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="Expected a bucket"):
        open_store(url, make_session())


@pytest.mark.parametrize("suffix", ["", "/", "/prefix", "/prefix/"])
def test_a_root_may_end_with_a_slash_or_be_the_bucket(s3_bucket: str, suffix: str) -> None:
    with open_store(f"s3://{s3_bucket}{suffix}", make_session()) as store:
        store.create("a/b", b"x")
        assert [each.key for each in store.list("")] == ["a/b"]
        assert store.read("a/b") == b"x"


@pytest.mark.parametrize("method", ALL.values(), ids=ALL)
def test_a_missing_bucket_is_named(s3_bucket: str, method: Method) -> None:
    error = failure("s3://no-such-bucket-1/root", method)
    assert "no-such-bucket-1/root" in error.message
    assert error.causes == ("Bucket `no-such-bucket-1` was not found",)
    assert error.hint


@pytest.mark.parametrize(
    ("method", "action"), [("create", "s3:PutObject"), ("delete", "s3:DeleteObject")]
)
def test_a_refusal_names_what_is_missing(
    s3_bucket: str,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    action: str,
) -> None:
    for name, value in s3_server.environment(s3_server.reader).items():
        monkeypatch.setenv(name, value)
    error = failure(f"s3://{s3_bucket}/root", METHODS[method])
    assert error.message.endswith(f"`s3://{s3_bucket}/root/key`")
    assert error.causes[0].startswith("AccessDenied: ")
    assert f"Allow this identity `{action}` on `arn:aws:s3:::{s3_bucket}/root/*`" in str(error.hint)


def test_a_reader_may_read(s3: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.create("key", b"x")
    for name, value in s3_server.environment(s3_server.reader).items():
        monkeypatch.setenv(name, value)
    with open_store(s3.url, make_session()) as store:
        assert store.read("key") == b"x"
        assert store.find("other") is None
        assert store.sign_get("key", 60)


def test_a_wrong_secret_key_is_told(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    error = failure(f"s3://{s3_bucket}", METHODS["read"])
    assert error.causes[0].startswith("SignatureDoesNotMatch: ")
    assert "secret key" in str(error.hint)


@pytest.mark.parametrize("method", [METHODS["find"], SIGNATURES["sign_get"]])
def test_missing_credentials_are_told(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = failure(f"s3://{s3_bucket}", method)
    assert "Unable to locate credentials" in error.causes[0]
    assert "aws sso login" in str(error.hint)


def test_an_unknown_profile_is_told(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=f"Failed to open `s3://{s3_bucket}`") as caught:
        open_store(f"s3://{s3_bucket}", make_session())
    assert "nobody" in caught.value.causes[0]


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://user:hidden@127.0.0.1:9"])
def test_an_endpoint_that_does_not_answer_is_told(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    error = failure(f"s3://{s3_bucket}", METHODS["find"])
    assert "http://127.0.0.1:9" in error.causes[0]
    assert "hidden" not in error.causes[0]
    assert "AWS_ENDPOINT_URL" in str(error.hint)


def test_an_endpoint_that_is_no_url_is_told(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost:1")
    with pytest.raises(StoreError, match="Failed to open") as caught:
        open_store(f"s3://{s3_bucket}", make_session())
    assert "localhost:1" in caught.value.causes[0]
    assert "AWS_ENDPOINT_URL" in str(caught.value.hint)


def test_the_region_is_named_as_every_sdk_but_boto3_names_it(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    with open_store(f"s3://{s3_bucket}", make_session()) as store:
        assert "eu-west-3" in store.sign_get("key", 60)


@pytest.mark.parametrize("sign", SIGNATURES.values(), ids=SIGNATURES)
def test_signatures_name_the_region_of_the_bucket(
    moto: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, sign: Method
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    boto3.client("s3").create_bucket(
        Bucket=s3_bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    with open_store(f"s3://{s3_bucket}", make_session()) as store:
        assert "eu-west-1" in str(sign(store))
        assert "us-east-1" not in str(sign(store))


def test_a_url_is_signed_for_seven_days_at_most(s3: Store) -> None:
    month = 30 * 24 * 3600
    query = parse_qs(urlsplit(s3.sign_get("key", month)).query)
    assert query["X-Amz-Expires"] == [str(7 * 24 * 3600)]
    assert abs(s3.expiry(month) - datetime.now(timezone.utc) - WEEK) < timedelta(seconds=5)


def test_an_upload_signs_nothing_that_the_guest_cannot_know(s3: Store) -> None:
    query = parse_qs(urlsplit(s3.sign_put("key", 60).url).query)
    assert query["X-Amz-SignedHeaders"] == ["host;if-none-match"]
    assert not any("checksum" in name.lower() for name in query)


def test_a_url_dies_with_the_credentials(
    s3_bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    keys = tmp_path / "keys.json"
    keys.write_text(
        json.dumps(
            {
                "Version": 1,
                "AccessKeyId": s3_server.admin.access_key,
                "SecretAccessKey": s3_server.admin.secret_key,
                "Expiration": end.isoformat(),
            }
        )
    )
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {keys}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with open_store(f"s3://{s3_bucket}", make_session()) as store:
        assert store.expiry(7200) == end
        assert store.expiry(60) < end - timedelta(minutes=50)


def test_more_than_one_upload_carries_is_refused_unread(s3: Store, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, MAX_SINGLE_PUT + 1)
    with pytest.raises(StoreError, match=r"it has 5\.4 GB") as caught:
        s3.create("key", large)
    assert "s3://" in caught.value.message
    assert caught.value.hint


def test_the_projects_own_place_of_the_bucket_comes_before_the_environments(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    settings = Settings(s3=S3Settings(endpoint_url=s3_server.endpoint, region="eu-west-3"))
    with open_store(f"s3://{s3_bucket}", make_session(settings=settings)) as store:
        store.create("key", b"x")
        url = store.sign_get("key", 60)
        assert ask("GET", url).body == b"x"
        access = store.role_access()
    assert url.startswith(s3_server.endpoint)
    assert "%2Feu-west-3%2Fs3%2F" in url
    assert access
    assert access.region == "eu-west-3"


def test_commands_read_the_projects_place_of_the_bucket(
    s3_bucket: str,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open_store(f"s3://{s3_bucket}", make_session()) as store:
        store.create("key", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    text = f'[tool.envboot.s3]\nendpoint-url = "{s3_server.endpoint}"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["store", "ls", f"s3://{s3_bucket}"], "envboot") == 0
    assert capsys.readouterr().out.endswith("  key\n")
    assert run(cli, ["store", "rm", "--yes", f"s3://{s3_bucket}", "key"], "envboot") == 0
    assert s3_server.client().list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0
