"""`envboot doctor` on a Cloud Storage bucket: each failure names permission and role."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from envboot.cli import cli, run
from envboot.config import GcsSettings, Settings
from envboot.doctor import check_store
from envboot.errors import Exit
from tests.gcs import ADMIN
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.doctor.check import Check
    from tests.gcs import GcsFront

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]
KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"


@pytest.fixture
def url(gcs_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return f"gs://{gcs_bucket}/team/one"


def now() -> datetime:
    return datetime.now(timezone.utc)


def examine(url: str, hours: float = 0, **settings: str) -> dict[str, Check]:
    found = check_store(
        url,
        make_session(settings=Settings(gcs=GcsSettings(**settings))),
        lambda: now() + timedelta(hours=hours),
    )
    return {check.name: check for check in found}


def failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.status == "failed"]


def test_a_bucket_that_was_set_up_passes_every_check(
    gcs_server: GcsFront, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["store", "init", url], "envboot") == Exit.OK
    capsys.readouterr()
    assert run(cli, ["doctor", "--store", url], "envboot") == Exit.OK
    printed = capsys.readouterr().out
    assert "20 ok" in printed, printed
    assert f"signing            A key of `{ADMIN}` signs: signed URLs live up to 7 days" in printed
    left = gcs_server.ask("GET", f"/storage/v1/b/{url.split('/')[2]}/o").document
    assert left.get("items", []) == []


def test_a_bucket_that_was_not_set_up_is_warned_of(url: str) -> None:
    checks = examine(url)
    assert failed(checks) == []
    warned = [name for name, check in checks.items() if check.status == "warning"]
    assert warned == ["lifecycle", "public access", "uniform access"]
    assert checks["lifecycle"].hint == f"Set it up with `envboot store init {url}`"


@pytest.mark.parametrize(
    ("permission", "role", "names"),
    [
        ("storage.objects.list", "legacyBucketReader", ["list"]),
        ("storage.objects.create", "objectCreator", ["write"]),
        ("storage.objects.get", "objectViewer", ["read"]),
    ],
)
def test_what_is_missing_is_told_by_permission_and_role(
    gcs_server: GcsFront, url: str, permission: str, role: str, names: list[str]
) -> None:
    gcs_server.may = lambda who, asked, name: asked != permission
    checks = examine(url)
    assert failed(checks)[: len(names)] == names
    words = f"Give `{ADMIN}` `{permission}` (role `roles/storage.{role}`) on bucket"
    assert words in (checks[names[0]].hint or "")


def test_who_may_not_delete_is_warned(gcs_server: GcsFront, url: str) -> None:
    gcs_server.may = lambda who, asked, name: asked != "storage.objects.delete"
    checks = examine(url)
    assert checks["delete"].status == "warning"
    assert "`storage.objects.delete` (role `roles/storage.objectAdmin`)" in (
        checks["delete"].hint or ""
    )
    assert failed(checks) == ["renew"]


def test_who_may_not_see_the_bucket_is_told_what_it_needs(gcs_server: GcsFront, url: str) -> None:
    gcs_server.may = lambda who, asked, name: not asked.startswith("storage.buckets.")
    checks = examine(url)
    assert failed(checks) == []
    words = "Cannot look: it needs `storage.buckets.get` (role `roles/storage.legacyBucketReader`)"
    assert checks["lifecycle"].detail.startswith(words)


def test_who_may_not_list_cannot_tell_a_missing_object(gcs_server: GcsFront, url: str) -> None:
    gcs_server.may = lambda who, asked, name: asked != "storage.objects.list"
    assert examine(url)["missing object"].status == "warning"


def test_a_bucket_that_is_not_there_is_told(gcs_server: GcsFront) -> None:
    del gcs_server
    checks = examine("gs://not-there/x")
    assert checks["bucket"].detail == "Bucket `not-there` was not found"
    assert (checks["bucket"].hint or "").startswith(
        "Create it with `envboot store init gs://not-there/x`"
    )
    assert checks["objects"].status == "skipped"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_wrong_is_told_before_all_else(url: str, hours: int) -> None:
    checks = examine(url, hours)
    assert failed(checks) == ["clock"]
    words = "60 minutes ahead of" if hours > 0 else "60 minutes behind"
    assert checks["clock"].detail == f"{words} the service's"
    assert list(checks)[-1] == "bucket"


def test_a_token_that_is_refused_by_the_clock_is_told_so(gcs_server: GcsFront, url: str) -> None:
    gcs_server.ahead = 2 * 3600
    check = examine(url)["credentials"]
    assert check.status == "failed"
    assert "timedatectl" in (check.hint or "")


def test_credentials_that_are_nowhere_are_told(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    check = examine(url)["credentials"]
    assert check.status == "failed"
    assert "gcloud auth application-default login" in (check.hint or "")


def test_a_users_own_credentials_leave_the_bucket_to_roles(
    gcs_server: GcsFront, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_user(gcs_server, tmp_path, monkeypatch)
    checks = examine(url)
    assert failed(checks) == ["signing"]
    hint = checks["signing"].hint or ""
    assert "--impersonate-service-account=" in hint
    assert "`--auth role`" in hint
    assert checks["signed URLs"].status == "skipped"
    assert checks["delete"].status == "ok"


def test_a_kms_key_is_looked_for_on_what_was_written(url: str) -> None:
    assert examine(url, kms_key=KEY)["encryption"].detail == f"`{KEY}`"


def test_a_token_server_out_of_reach_is_told_and_that_nobody_signs(
    gcs_server: GcsFront, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_user(gcs_server, tmp_path, monkeypatch)
    cut_off(monkeypatch)
    checks = examine(url)
    assert checks["credentials"].detail.startswith("Google's token server `127.0.0.1:1` cannot be")
    assert "a user's own" in checks["credentials"].detail
    assert (checks["credentials"].hint or "").startswith("Check this machine's network")
    assert "--impersonate-service-account=" in (checks["signing"].hint or "")


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Google's token server be out of reach."""
    monkeypatch.setattr(
        "google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", "http://127.0.0.1:1/token"
    )


def become_user(gcs_server: GcsFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign in as `gcloud auth application-default login` does."""
    from google.oauth2 import credentials

    file = tmp_path / "user.json"
    file.write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "client",
                "client_secret": "secret",
                "refresh_token": "refresh",
            }
        )
    )
    monkeypatch.setattr(
        credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{gcs_server.endpoint}/token"
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
