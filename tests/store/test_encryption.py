"""With a KMS key every way to write carries it, and the bucket encrypts with it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from envboot.config import S3Settings
from envboot.store import open_store
from envboot.store.s3.store import S3Store
from tests.sessions import make_session
from tests.store.guest import ask, post

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agent.proxy import Proxy
    from tests.servers import S3Server

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]

KEY = "alias/team"
HEADERS = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": KEY,
}


@pytest.fixture
def encrypted(s3_bucket: str) -> Iterator[S3Store]:
    with S3Store(
        f"s3://{s3_bucket}/team/one", settings=S3Settings(kms_key=KEY), environment=os.environ
    ) as store:
        yield store


@pytest.fixture
def used(s3_server: S3Server, s3_bucket: str) -> Any:
    """Which key an object is encrypted with."""

    def ask_server(key: str) -> str | None:
        found = s3_server.client().head_object(Bucket=s3_bucket, Key=f"team/one/{key}")
        return found.get("SSEKMSKeyId")

    return ask_server


def test_what_is_created_is_encrypted_and_read_back(
    encrypted: S3Store, used: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    assert encrypted.create("one", b"from memory")
    assert encrypted.create("two", tmp_path / "file")
    assert (used("one"), used("two")) == (KEY, KEY)
    assert encrypted.read("two") == b"from a file"


def test_without_a_key_nothing_is_asked_of_the_bucket(s3_bucket: str, used: Any) -> None:
    with S3Store(f"s3://{s3_bucket}/team/one", environment=os.environ) as store:
        store.create("one", b"x")
        assert store.sign_put("two", 60).headers == {"If-None-Match": "*"}
        assert store.role_access().headers == {"If-None-Match": "*"}
    assert used("one") is None


def test_a_signed_put_is_encrypted_and_cannot_leave_that_out(encrypted: S3Store, used: Any) -> None:
    signed = encrypted.sign_put("put", 60)
    assert signed.headers == {"If-None-Match": "*", **HEADERS}
    query = parse_qs(urlsplit(signed.url).query)
    assert set(query["X-Amz-SignedHeaders"][0].split(";")) == {"host", "if-none-match", *HEADERS}
    for missing in HEADERS:
        less = {name: value for name, value in signed.headers.items() if name != missing}
        assert ask("PUT", signed.url, body=b"x", headers=less).status == 403
    other = {**signed.headers, "x-amz-server-side-encryption-aws-kms-key-id": "alias/other"}
    assert ask("PUT", signed.url, body=b"x", headers=other).status == 403
    assert ask("PUT", signed.url, body=b"x", headers=signed.headers).status == 200
    assert used("put") == KEY
    assert ask("PUT", signed.url, body=b"x", headers=signed.headers).status == 412


def test_a_signed_form_is_encrypted_and_cannot_leave_that_out(
    encrypted: S3Store, used: Any
) -> None:
    form = encrypted.sign_post("reports/a/", 60, 1000)
    assert form.fields.items() >= HEADERS.items()
    assert post(form, f"{form.prefix}one", b"x").status == 204
    assert used("reports/a/one") == KEY
    other = {"x-amz-server-side-encryption-aws-kms-key-id": "alias/other"}
    assert post(form, f"{form.prefix}two", b"x", **other).status == 403


def test_a_signed_url_reads_what_is_encrypted(encrypted: S3Store) -> None:
    encrypted.create("one", b"x" * 1000)
    assert ask("GET", encrypted.sign_get("one", 60)).body == b"x" * 1000


def test_a_role_is_told_what_to_send(encrypted: S3Store) -> None:
    assert encrypted.role_access().headers == {"If-None-Match": "*", **HEADERS}


def test_a_renewed_object_is_encrypted_as_it_was(
    encrypted: S3Store, used: Any, s3_bucket: str
) -> None:
    encrypted.create("one", b"x")
    with S3Store(f"s3://{s3_bucket}/team/one", environment=os.environ) as plain:
        plain.copy_in_place("one")
        assert used("one") == KEY
        plain.create("two", b"y")
    encrypted.copy_in_place("two")
    assert used("two") == KEY
    assert (encrypted.read("one"), encrypted.read("two")) == (b"x", b"y")


class TestRenew:
    """What an S3 bucket does where it expires what is old."""

    @pytest.fixture
    def store(self, s3_bucket: str, s3_server: S3Server) -> Iterator[S3Store]:
        rule = {
            "ID": "old",
            "Filter": {"Prefix": "team/one/base/"},
            "Status": "Enabled",
            "Expiration": {"Days": 90},
        }
        rules: Any = {"Rules": [rule]}
        s3_server.client().put_bucket_lifecycle_configuration(
            Bucket=s3_bucket, LifecycleConfiguration=rules
        )
        with S3Store(f"s3://{s3_bucket}/team/one", environment=os.environ) as store:
            store.create("base/one", b"x")
            store.create("tools/one", b"x")
            yield store

    @pytest.fixture
    def copies(self, store: S3Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The keys that are copied, which they are."""
        made: list[str] = []
        copy = S3Store.copy_in_place

        def note(self: S3Store, key: str) -> None:
            made.append(key)
            copy(self, key)

        monkeypatch.setattr(S3Store, "copy_in_place", note)
        return made

    def test_a_day_old_object_is_copied_and_a_new_one_is_not(
        self, store: S3Store, copies: list[str]
    ) -> None:
        store.renew("base/one")
        assert copies == []
        store.renew("base/one", older=-1)
        store.renew("base/missing", older=-1)
        assert copies == ["base/one"]

    def test_what_the_bucket_keeps_for_ever_is_not_copied(
        self, store: S3Store, copies: list[str]
    ) -> None:
        store.renew("tools/one", older=-1)
        assert copies == []

    def test_it_counts_as_new(self, store: S3Store, s3_server: S3Server, s3_bucket: str) -> None:
        client = s3_server.client()
        place: Any = {"Bucket": s3_bucket, "Key": "team/one/base/one"}
        client.delete_object(**place)
        client.put_object(**place, Body=b"x", ContentType="text/x-own", Metadata={"a": "b"})
        before = client.head_object(**place)
        while client.head_object(**place)["LastModified"] == before["LastModified"]:
            store.copy_in_place("base/one")
        after = client.head_object(**place)
        for name in ("ETag", "ContentLength", "ContentType", "Metadata"):
            assert after[name] == before[name]

    def test_what_another_writes_meanwhile_stays(
        self, store: S3Store, s3_server: S3Server, s3_bucket: str
    ) -> None:
        client = s3_server.client()
        events = store.connection.client.meta.events

        def replace(**_: Any) -> None:
            client.put_object(
                Bucket=s3_bucket, Key="team/one/base/one", Body=b"another's", ContentType="text/x"
            )

        def remove(**_: Any) -> None:
            client.delete_object(Bucket=s3_bucket, Key="team/one/base/one")

        for meanwhile, left in ((replace, b"another's"), (remove, None)):
            events.register_first("before-call.s3.CopyObject", meanwhile)
            store.copy_in_place("base/one")
            assert store.read("base/one") == left
            if left:
                found = client.head_object(Bucket=s3_bucket, Key="team/one/base/one")
                assert found["ContentType"] == "text/x"
            events.unregister("before-call.s3.CopyObject", meanwhile)

    def test_who_may_not_see_the_rules_renews(
        self,
        store: S3Store,
        copies: list[str],
        proxy: Proxy,
    ) -> None:
        proxy.strike(r"GET /[\w-]+$", 1, "403 AccessDenied")
        with open_store(store.url, make_session()) as blind:
            blind.renew("tools/one", older=-1)
        assert proxy.faults[0][1] == 0
        assert copies == ["tools/one"]
