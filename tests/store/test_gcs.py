"""What is Cloud Storage's own: who signs and for how long, uploads that break off, its errors."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import google.auth
import pytest
from google.auth import compute_engine, credentials

from envboot.agent import fetch
from envboot.agent.wire import AgentError
from envboot.config import GcsSettings
from envboot.errors import StoreError, UsageError
from envboot.store import open_store
from envboot.store.gcs.store import GcsStore
from tests.boot.gce_metadata import serve_gce_metadata
from tests.gcs import ADMIN, GUEST
from tests.sessions import make_session
from tests.store.guest import ask, post
from tests.store.test_gcs_doctor import KEY, become_user, cut_off

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gcs import GcsFront

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]
WEEK = 7 * 24 * 3600
HALF_DAY = 12 * 3600


@pytest.fixture
def url(gcs_bucket: str) -> str:
    return f"gs://{gcs_bucket}/team/one"


@pytest.fixture
def gcs(url: str) -> Iterator[GcsStore]:
    with GcsStore(url, environment=os.environ) as store:
        yield store


def hours(store: GcsStore, seconds: int) -> tuple[float, str]:
    limit = store.limits(seconds)
    left = limit.end - datetime.now(timezone.utc)
    return round(left / timedelta(hours=1), 1), limit.limited_by


def test_a_key_signs_for_seven_days(gcs: GcsStore) -> None:
    assert hours(gcs, 60 * 60) == (1, "request")
    assert hours(gcs, WEEK) == (168, "request")
    assert hours(gcs, WEEK + 1) == (168, "seven days")
    gcs.create("key", b"data")
    assert ask("GET", gcs.sign_get("key", 2 * WEEK)).body == b"data"


def impersonate(front: GcsFront, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Sign in as `gcloud auth application-default login --impersonate-service-account` does."""
    become_user(front, folder, patch)
    file = folder / "impersonated.json"
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ADMIN}"
    document = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": f"{url}:generateAccessToken",
        "delegates": [],
        "source_credentials": json.loads((folder / "user.json").read_text()),
    }
    file.write_text(json.dumps(document))
    patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


def check_signatures(store: GcsStore, front: GcsFront, email: str) -> None:
    store.create("key", b"data")
    url = store.sign_get("key", 60)
    assert f"X-Goog-Credential={email.replace('@', '%40')}%2F" in url
    assert ask("GET", url).body == b"data"
    put = store.sign_put("new", 60)
    assert ask("PUT", put.url, body=b"x", headers=put.headers).status == 200
    form = store.sign_post("reports/", 60, 100)
    assert post(form, form.prefix + "a", b"x").status == 204
    assert [each for each in front.requests if each.endswith(":signBlob")]
    assert hours(store, HALF_DAY) == (12, "request")
    assert hours(store, WEEK) == (12, "twelve hours")
    assert "twelve hours" in str(store.limits(WEEK))


def test_whom_one_impersonates_signs_for_twelve_hours(
    gcs_server: GcsFront, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impersonate(gcs_server, tmp_path, monkeypatch)
    with GcsStore(url, environment=os.environ) as store:
        check_signatures(store, gcs_server, ADMIN)


def test_a_machine_of_googles_signs_through_iam(
    gcs_server: GcsFront, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def default(scopes: Any = None) -> tuple[credentials.Credentials, str]:
        return compute_engine.Credentials(scopes=scopes), "team-project"

    with serve_gce_metadata() as (metadata, host):
        metadata.give_account(GUEST, lambda: gcs_server.issue(GUEST))
        # Read when the module is imported.
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", host)
        monkeypatch.setattr(google.auth, "default", default)
        with GcsStore(url, environment=os.environ) as store:
            check_signatures(store, gcs_server, GUEST)


def test_who_may_not_sign_for_an_account_is_told_permission_and_role(
    gcs_server: GcsFront, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impersonate(gcs_server, tmp_path, monkeypatch)
    gcs_server.may = lambda who, permission, name: not permission.endswith("signBlob")
    with GcsStore(url, environment=os.environ) as store, pytest.raises(StoreError) as caught:
        store.sign_get("key", 60)
    hint = caught.value.hint or ""
    assert "`iam.serviceAccounts.signBlob` (role `roles/iam.serviceAccountTokenCreator`)" in hint


def test_a_users_own_credentials_cannot_sign_and_two_ways_out_are_told(
    gcs_server: GcsFront, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_user(gcs_server, tmp_path, monkeypatch)
    with GcsStore(url, environment=os.environ) as store:
        assert store.create("key", b"data")
        with pytest.raises(StoreError, match="Cannot sign URLs for `gs://") as caught:
            store.sign_get("key", 60)
    assert "they are a user's own" in caught.value.causes[0]
    hint = caught.value.hint or ""
    assert "gcloud auth application-default login --impersonate-service-account=" in hint
    assert "`--auth role`" in hint


def test_that_nobody_signs_for_a_user_is_told_before_anybody_is_asked(
    gcs_server: GcsFront, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_user(gcs_server, tmp_path, monkeypatch)
    cut_off(monkeypatch)
    gcs_server.requests.clear()
    with GcsStore(url, environment=os.environ) as store:
        with pytest.raises(StoreError, match="Cannot sign URLs for `gs://") as caught:
            store.check(signs=True)
        assert "--impersonate-service-account=" in (caught.value.hint or "")
        start = time.monotonic()
        with pytest.raises(StoreError, match="Failed to find `gs://") as caught:
            store.check(signs=False)
    assert time.monotonic() - start < 10
    assert "token server `127.0.0.1:1` cannot be reached: Conn" in caught.value.causes[0]
    assert gcs_server.requests == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_burst_of_faults_is_waited_out(
    gcs: GcsStore, gcs_server: GcsFront, tmp_path: Path, status: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"data")
    gcs_server.strike("POST /upload", 1, status)
    assert gcs.create("small", b"data")
    gcs_server.strike("POST /upload", 1, status)
    gcs_server.strike("PUT /upload", 2, status)
    assert gcs.create("large", file)
    gcs_server.strike("GET ", 2, status)
    assert gcs.read("large") == b"data"
    gcs_server.strike("GET ", 1, status)
    assert [each.key for each in gcs.list("")] == ["large", "small"]


@pytest.mark.parametrize("what", ["keep half", "hang up", "lose the answer"])
def test_an_upload_that_breaks_off_goes_on_where_it_was(
    gcs: GcsStore, gcs_server: GcsFront, tmp_path: Path, what: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(data := os.urandom(3_000_001))
    told: list[int] = []
    gcs_server.strike("PUT /upload", 1, what)
    assert gcs.create("large", file, told.append)
    assert gcs.read("large") == data
    assert told[-1] == len(data)
    if what == "keep half":
        (upload,) = (each for each in gcs_server.uploads.values() if each.data == data)
        assert upload.taken < 0.6 * len(data)
    assert not gcs.create("large", file)


def test_an_upload_that_always_breaks_off_ends_with_the_reason(
    gcs: GcsStore, gcs_server: GcsFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"data")
    monkeypatch.setattr(time, "sleep", float)
    gcs_server.strike("PUT /upload", 100, 503)
    with pytest.raises(StoreError, match=r"Failed to write `gs://.*/large`") as caught:
        gcs.create("large", file)
    assert caught.value.causes == ("503: Bad day",)
    assert caught.value.hint == "Try again in a minute"


def test_a_bucket_that_is_not_there_is_told_from_an_object_that_is_not(
    gcs_server: GcsFront, tmp_path: Path
) -> None:
    del gcs_server
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with GcsStore("gs://not-there/x", environment=os.environ) as store:
        for attempt in (
            lambda: store.read("key"),
            lambda: store.find("key"),
            lambda: store.create("key", b"x"),
            lambda: store.create("key", file),
            lambda: list(store.list("")),
            lambda: store.delete("key"),
        ):
            with pytest.raises(StoreError) as caught:
                attempt()
            assert caught.value.causes == ("Bucket `not-there` was not found",)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_url_signed_by_a_clock_that_is_off_by_an_hour_is_refused(
    gcs: GcsStore, gcs_server: GcsFront, seconds: int
) -> None:
    gcs.create("key", b"data")
    signed = gcs.sign_get("key", 600)
    gcs_server.ahead = seconds
    with pytest.raises(AgentError) as caught:
        fetch.read(signed)
    assert caught.value.reason == ("expired" if seconds > 0 else "forbidden")
    assert "X-Goog-Signature" not in str(caught.value)


def test_a_kms_key_goes_with_whatever_is_written(
    gcs_server: GcsFront, gcs_bucket: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with GcsStore(
        f"gs://{gcs_bucket}", settings=GcsSettings(kms_key=KEY), environment=os.environ
    ) as store:
        store.create("bytes", b"x")
        store.create("file", file)
        store.rewrite_in_place("bytes")
        put = store.sign_put("put", 60)
        assert put.headers["x-goog-encryption-kms-key-name"] == KEY
        assert ask("PUT", put.url, body=b"x", headers=put.headers).status == 200
        access = store.role_access()
    assert gcs_server.encrypted == {
        f"{gcs_bucket}/{name}": KEY for name in ("bytes", "file", "put")
    } | {key: value for key, value in gcs_server.encrypted.items() if gcs_bucket not in key}
    assert access.headers == put.headers


def test_only_what_the_bucket_would_delete_is_renewed(
    gcs_server: GcsFront, gcs_bucket: str
) -> None:
    rule = {
        "action": {"type": "Delete"},
        "condition": {"age": 90, "matchesPrefix": ["one/base/"]},
    }
    gcs_server.settings[gcs_bucket] = {"lifecycle": {"rule": [rule]}}
    with GcsStore(f"gs://{gcs_bucket}/one", environment=os.environ) as store:
        for key in ("base/old", "environments/old"):
            store.create(key, b"data")
        before = {each.key: each.modified for each in store.list("")}
        time.sleep(1.1)
        gcs_server.age = 90_000
        for key in before:
            store.renew(key)
        gcs_server.age = 0
        after = {each.key: each.modified for each in store.list("")}
        assert after["base/old"] > before["base/old"]
        assert after["environments/old"] == before["environments/old"]
        assert store.read("base/old") == b"data"


def test_roles_are_told_places_and_no_secret(gcs_bucket: str, gcs_server: GcsFront) -> None:
    with GcsStore(f"gs://{gcs_bucket}/team envs", environment=os.environ) as store:
        access = store.role_access()
    assert access.kind == "gcp"
    assert access.url == f"{gcs_server.endpoint}/{gcs_bucket}/team%20envs/"
    assert (access.region, access.max_bytes) == (None, None)


def test_googles_own_endpoint_is_asked_where_no_other_is_named(
    gcs_server: GcsFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    del gcs_server
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    with GcsStore("gs://bucket", environment=os.environ) as store:
        assert store.role_access().url == "https://storage.googleapis.com/bucket/"
        assert store.sign_get("key", 60).startswith("https://storage.googleapis.com/bucket/key?")


@pytest.mark.parametrize("url", ["gs://", "gs:///x", "gs://bucket?x", "gs://bucket#x"])
def test_a_url_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="gs://bucket/prefix"), open_store(url, make_session()):
        pass


def test_a_renewal_never_undoes_what_somebody_else_writes(
    gcs: GcsStore, gcs_server: GcsFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcs.create("base/key", b"old")
    find = gcs._find

    def meanwhile(key: str) -> Any:
        found = find(key)
        gcs.delete(key)
        gcs.create(key, b"new")
        return found

    monkeypatch.setattr(gcs, "_find", meanwhile)
    gcs.rewrite_in_place("base/key")
    assert gcs.read("base/key") == b"new"
    assert "conditionNotMet" in gcs_server.refused
