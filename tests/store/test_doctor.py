"""`envboot doctor`: what it finds in healthy buckets, and in each kind of broken one."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from botocore import auth
from botocore.compat import get_current_datetime

from envboot.cli import cli, run
from envboot.cli.commands import doctor
from envboot.config import S3Settings, Settings
from envboot.doctor import check_store
from envboot.doctor.check import Check
from envboot.errors import Exit
from envboot.store.protocol import SignedPut
from envboot.store.s3.connection import S3Connection
from envboot.store.s3.store import S3Store
from envboot_provisioners import Option
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.agent.proxy import Proxy
    from tests.servers import Identity, S3Server

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def url(s3_bucket: str) -> str:
    return f"s3://{s3_bucket}/team/one"


def now() -> datetime:
    return datetime.now(timezone.utc)


def examine(url: str, clock: Callable[[], datetime] = now, **settings: str) -> dict[str, Check]:
    return {
        check.name: check
        for check in check_store(
            url, make_session(settings=Settings(s3=S3Settings(**settings))), clock
        )
    }


def failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.status == "failed"]


def become(who: Identity, server: S3Server, patch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment(who).items():
        if name != "AWS_ENDPOINT_URL_S3":
            patch.setenv(name, value)


def transcript(capsys: pytest.CaptureFixture[str], *words: str, hide: dict[str, str]) -> str:
    code = run(cli, ["doctor", *words], "envboot")
    seen = capsys.readouterr()
    text = f"{seen.out}{seen.err}exit code {int(code)}\n"
    for value, name in hide.items():
        text = text.replace(value, name)
    return re.sub(r"http://127\.0\.0\.1:\d+", "http://ENDPOINT", text)


def keys(server: S3Server, bucket: str) -> list[str]:
    return [
        each["Key"] for each in server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    ]


def test_a_healthy_bucket_passes_and_is_left_as_it_was(
    url: str,
    s3_bucket: str,
    s3_server: S3Server,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str | bytes], None],
) -> None:
    assert run(cli, ["store", "init", url], "envboot") == Exit.OK
    capsys.readouterr()
    golden("doctor.txt", transcript(capsys, "--store", url, hide={s3_bucket: "BUCKET"}))
    assert keys(s3_server, s3_bucket) == []


def test_a_folder_passes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str | bytes], None],
) -> None:
    words = ("--store", f"file://{tmp_path}/bucket")
    golden("doctor-folder.txt", transcript(capsys, *words, hide={str(tmp_path): ""}))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [
        tmp_path / "bucket/.envboot-key"
    ]


def test_who_may_only_read_is_told_what_is_missing(
    url: str,
    s3_bucket: str,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str | bytes], None],
) -> None:
    become(s3_server.reader, s3_server, monkeypatch)
    golden("doctor-reader.txt", transcript(capsys, "--store", url, hide={s3_bucket: "BUCKET"}))


def test_the_bucket_is_that_of_the_settings_and_the_document_is_json(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'[tool.envboot]\nstore = "{url}"\n[tool.envboot.s3]\nkms-key = "alias/team"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert run(cli, ["doctor", "--json"], "envboot") == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert document["store"] == url
    found = {check["name"]: check for check in document["checks"]}
    assert found["encryption"] == {
        "name": "encryption",
        "status": "ok",
        "detail": "`aws:kms` with `alias/team`",
        "hint": None,
    }


def test_who_may_not_list_is_told_so(
    url: str, s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(s3_server.blind, s3_server, monkeypatch)
    checks = examine(url)
    assert failed(checks) == ["list"]
    assert f"`s3:ListBucket` on `arn:aws:s3:::{s3_bucket}`" in str(checks["list"].hint)


def test_a_missing_object_that_is_answered_as_a_forbidden_one_is_a_warning(
    url: str, proxy: Proxy
) -> None:
    proxy.strike("GET .*/missing", 9, "403 AccessDenied")
    check = examine(url)["missing object"]
    assert check.status == "warning"
    assert "s3:ListBucket" in str(check.hint)


def test_a_missing_bucket_is_told_how_to_be_made(s3_bucket: str) -> None:
    checks = examine(f"s3://{s3_bucket}-none/team")
    assert failed(checks) == ["bucket"]
    assert f"envboot store init s3://{s3_bucket}-none/team`" in str(checks["bucket"].hint)
    assert checks["objects"].status == "skipped"


def test_no_credentials_end_it_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    checks = examine(url)
    assert list(checks) == ["credentials", "bucket"]
    assert failed(checks) == ["credentials"]
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert failed(examine(url)) == ["credentials"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch", "secret key"),
        ({"access_key": "nobody"}, "InvalidAccessKeyId", "no such access key"),
    ],
)
def test_wrong_keys_are_explained(
    url: str,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    code: str,
    words: str,
) -> None:
    become(dataclasses.replace(s3_server.admin, **change), s3_server, monkeypatch)
    checks = examine(url)
    assert failed(checks) == ["bucket"]
    assert checks["bucket"].detail.startswith(f"{code}: ")
    assert words in str(checks["bucket"].hint)
    assert checks["identity"].status == "skipped"


def test_a_session_that_has_ended_is_explained(
    url: str, proxy: Proxy, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.strike("GET /[^/]+$", 9, "400 ExpiredToken")
    checks = examine(url)
    assert failed(checks) == ["bucket"]
    assert "session has ended" in str(checks["bucket"].hint)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_is_the_only_thing_said(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hours: int
) -> None:
    by = timedelta(hours=hours)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + by

    monkeypatch.setattr(auth, "get_current_datetime", lambda *_: get_current_datetime() + by)
    monkeypatch.setattr(doctor, "datetime", Shifted)
    assert run(cli, ["doctor", "--store", url], "envboot") == Exit.STORE
    seen = capsys.readouterr()
    words = "ahead of" if hours > 0 else "behind"
    assert f"failed   clock              60 minutes {words} the service's\n" in seen.out
    assert "timedatectl set-ntp true" in seen.out
    assert seen.out.count("failed ") == 1
    assert seen.err == "error: Expected every check to pass, failed: `clock`\n"


def test_a_clock_that_is_a_little_off_is_right(url: str) -> None:
    assert examine(url, lambda: now() + timedelta(seconds=200))["clock"].status == "ok"
    assert examine(url, lambda: now() - timedelta(seconds=320))["clock"].status == "failed"


def test_sessions_say_when_they_end(
    url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examine(url)["session"].status == "ok"
    session = s3_server.open_session(900)
    become(session, s3_server, monkeypatch)
    check = examine(url)["session"]
    assert (check.status, "nobody tells when" in check.detail) == ("warning", True)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", session.end.isoformat())
    check = examine(url)["session"]
    assert (check.status, "in 0.2 h" in check.detail) == ("warning", True)
    later = session.end - timedelta(hours=3)
    assert examine(url, lambda: later)["session"].status == "ok"


def test_a_service_that_cannot_be_reached_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    checks = examine(url)
    assert failed(checks) == ["clock"]
    assert "http://127.0.0.1:9" in checks["clock"].detail
    assert checks["identity"].status == "skipped"


def test_a_service_that_ignores_if_none_match_is_found_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_condition(**words: Any) -> None:
        words["params"]["headers"].pop("If-None-Match", None)

    init = S3Connection.__init__

    def make(self: S3Connection, *arguments: Any) -> None:
        init(self, *arguments)
        self.client.meta.events.register("before-call.s3.PutObject", without_condition)

    monkeypatch.setattr(S3Connection, "__init__", make)
    monkeypatch.setattr(
        S3Store,
        "sign_put",
        lambda self, key, seconds: SignedPut(
            url=self._client.generate_presigned_url(
                "put_object", Params={"Bucket": self._bucket, "Key": self._name(key)}
            ),
            headers={},
        ),
    )
    checks = examine(url)
    assert failed(checks) == ["create only", "signed overwrite"]
    assert "ignores `If-None-Match`" in checks["create only"].detail


def test_a_public_bucket_is_found_out(url: str, s3_bucket: str, s3_server: S3Server) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{s3_bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3_server.client().put_bucket_policy(Bucket=s3_bucket, Policy=json.dumps(policy))
    checks = examine(url)
    assert failed(checks) == ["public read"]
    assert "Everybody can read" in checks["public read"].detail


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("PUT .*/put", ["signed PUT"]),
        (r"POST /[\w-]+$", ["signed POST"]),
        ("GET .*/written", ["read", "signed GET", "renew"]),
    ],
)
def test_each_refused_request_fails_its_own_check(
    url: str, proxy: Proxy, pattern: str, names: list[str]
) -> None:
    proxy.strike(pattern, 99, "403 AccessDenied")
    assert failed(examine(url)) == names


def test_what_cannot_be_removed_is_named(
    url: str, s3_bucket: str, s3_server: S3Server, proxy: Proxy
) -> None:
    proxy.strike("DELETE ", 99, "403 AccessDenied")
    check = examine(url)["delete"]
    assert check.status == "warning"
    assert "`s3:DeleteObject`" in str(check.hint)
    left = [key.removeprefix("team/one/") for key in keys(s3_server, s3_bucket)]
    assert len(left) == 3
    assert all(f"`{key}`" in check.detail for key in left)


def test_an_interrupt_leaves_nothing(url: str, s3_bucket: str, s3_server: S3Server) -> None:
    checks: Iterator[Check] = check_store(url, make_session(settings=Settings()), now)
    for check in checks:
        if check.name == "signed PUT":
            assert len(keys(s3_server, s3_bucket)) == 2
            break
    checks.close()  # type: ignore[attr-defined]
    assert keys(s3_server, s3_bucket) == []


def test_a_key_that_the_service_does_not_use_fails(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Store, "_encryption", lambda self: {})
    check = examine(url, kms_key="alias/team")["encryption"]
    assert check.detail == "Expected `aws:kms` with `alias/team`, found `nothing`"


def test_settings_of_the_bucket_are_looked_at(
    moto: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    monkeypatch.setattr(S3Connection, "is_encrypted", True)
    url = f"s3://{s3_bucket}/team/one"
    names = ("lifecycle", "public access", "TLS only")
    assert (
        run(cli, ["store", "init", f"s3://{s3_bucket}/team/two", "--no-tls-only"], "envboot") == 0
    )
    before = examine(url)
    assert [before[name].status for name in names] == ["warning", "ok", "warning"]
    assert f"envboot store init {url}" in str(before["lifecycle"].hint)
    assert run(cli, ["store", "init", url], "envboot") == 0
    assert [examine(url)[name].status for name in names] == ["ok"] * 3


def test_a_provisioner_adds_its_own_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []

    class Cloud:
        name = "cloud"
        role = "cloud"
        options = (
            Option(name="instance-type", help="x"),
            Option(name="root-size", help="x", kind="number"),
            Option(name="spot", help="x", kind="flag"),
            Option(name="spot-only", help="x", kind="flag"),
            Option(name="subnet", help="x", kind="list"),
        )

        def doctor(self, options: Any, *, by_role: bool, count: int) -> Iterator[Check]:
            assert (by_role, count) == (True, 20)
            given.append(options)
            yield Check(name="quota", status="failed", detail="No machine is left", hint="Ask")

    monkeypatch.setattr(doctor, "load_provisioner", lambda name, session: Cloud())
    words = ["doctor", "qemu", "--instance-type", "m6i.large", "--spot", "--subnet", "one"]
    words += ["--store", f"file://{tmp_path}/bucket", "--subnet=two", "--root-size", "30"]
    words += ["--auth", "role", "--count", "20"]
    assert run(cli, words, "envboot") == Exit.STORE
    seen = capsys.readouterr()
    assert "failed   quota              No machine is left\n" in seen.out
    assert seen.err.endswith("failed: `quota`\n")
    assert given == [
        {"instance-type": "m6i.large", "root-size": "30", "spot": "true", "subnet": ("one", "two")}
    ]
    for wrong in (["--zone", "a"], ["--root-size", "0"], ["one"]):
        assert run(cli, ["doctor", "qemu", *wrong], "envboot") == Exit.USAGE
        assert "hint: Use `envboot doctor qemu [OPTIONS]`" in capsys.readouterr().err
    assert run(cli, ["doctor", "--zone", "a"], "envboot") == Exit.USAGE
