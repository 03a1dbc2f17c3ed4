"""Signatures, forms and ranges of the local store, without a socket."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envboot.store.local.server import parse_form, parse_range
from envboot.store.local.signing import Policy, RefusedError, UrlSigner

SIGNER = UrlSigner(b"secret")
HEADERS = {"if-none-match": "*"}


def test_a_signature_holds_until_its_second() -> None:
    query = urlsplit(SIGNER.sign("GET", "key", 1000)).query
    SIGNER.check("GET", "key", query, {}, 999.9)
    with pytest.raises(RefusedError, match="expired"):
        SIGNER.check("GET", "key", query, {}, 1000.0)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_survives_its_url(key: str) -> None:
    url = urlsplit("http://host" + SIGNER.sign("PUT", key, 1000, HEADERS))
    assert unquote(url.path)[1:] == key
    SIGNER.check("PUT", key, url.query, HEADERS, 0)


@pytest.mark.parametrize(
    ("method", "key", "secret", "headers"),
    [
        ("GET", "key", b"secret", HEADERS),
        ("PUT", "key2", b"secret", HEADERS),
        ("PUT", "key", b"secret2", HEADERS),
        ("PUT", "key", b"secret", {"if-none-match": "x"}),
        ("PUT", "key", b"secret", {}),
    ],
)
def test_a_signature_covers(method: str, key: str, secret: bytes, headers: dict[str, str]) -> None:
    query = urlsplit(SIGNER.sign("PUT", "key", 1000, HEADERS)).query
    with pytest.raises(RefusedError) as caught:
        UrlSigner(secret).check(method, key, query, headers, 0)
    assert caught.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("old", "new"),
    [("Expires=1000", "Expires=1001"), ("SignedHeaders=if-none-match", "SignedHeaders=")],
)
def test_a_query_cannot_be_changed(old: str, new: str) -> None:
    query = urlsplit(SIGNER.sign("PUT", "key", 1000, HEADERS)).query
    assert old in query
    with pytest.raises(RefusedError) as caught:
        SIGNER.check("PUT", "key", query.replace(old, new), HEADERS, 0)
    assert caught.value.code == "SignatureDoesNotMatch"


@given(st.text())
def test_no_query_breaks_the_check(query: str) -> None:
    with pytest.raises(RefusedError):
        SIGNER.check("GET", "key", query, {}, 0)


def test_a_policy_is_not_a_url() -> None:
    fields = SIGNER.sign_policy(Policy(prefix="r/", max_bytes=10, expires=1000))
    query = (
        f"X-Envboot-Expires=1000&X-Envboot-SignedHeaders=&X-Envboot-Signature={fields['signature']}"
    )
    with pytest.raises(RefusedError):
        SIGNER.check("GET", "r/", query, {}, 0)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, ""),
        ({"key": b"other/name"}, "AccessDenied"),
        ({"file": bytes(11)}, "EntityTooLarge"),
        ({"signature": b"0" * 64}, "SignatureDoesNotMatch"),
        ({"signature": b"\xff"}, "SignatureDoesNotMatch"),
        ({"policy": b"e30="}, "SignatureDoesNotMatch"),
        ({"acl": b"public"}, "AccessDenied"),
    ],
)
def test_a_form_is_judged_by_its_policy(change: dict[str, bytes], code: str) -> None:
    signed = SIGNER.sign_policy(Policy(prefix="r/", max_bytes=10, expires=1000))
    form = {name: value.encode() for name, value in signed.items()}
    form |= {"key": b"r/name", "file": bytes(10)} | change
    if not code:
        assert SIGNER.check_form(form, 999) == "r/name"
        with pytest.raises(RefusedError, match="expired"):
            SIGNER.check_form(form, 1000)
        return
    with pytest.raises(RefusedError) as caught:
        SIGNER.check_form(form, 0)
    assert caught.value.code == code


@pytest.mark.parametrize("missing", ["key", "policy", "signature", "file"])
def test_a_form_needs_every_field(missing: str) -> None:
    signed = SIGNER.sign_policy(Policy(prefix="r/", max_bytes=10, expires=1000))
    form = {name: value.encode() for name, value in signed.items()}
    form |= {"key": b"r/name", "file": b""}
    del form[missing]
    with pytest.raises(RefusedError, match=missing):
        SIGNER.check_form(form, 0)


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        ("", 10, None),
        ("bytes=0-4", 10, (0, 5)),
        ("bytes=9-9", 10, (9, 10)),
        ("bytes=5-100", 10, (5, 10)),
        ("bytes=5-", 10, (5, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=-", 10, None),
        ("bytes=5-4", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("lines=0-1", 10, None),
    ],
)
def test_a_range_is_read_as_rfc_9110_says(
    header: str, size: int, span: tuple[int, int] | None
) -> None:
    assert parse_range(header, size) == span


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_behind_the_end_is_refused(header: str, size: int) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_range(header, size)
    assert caught.value.status == 416


@given(st.binary().filter(lambda data: b"\r\n--b0und" not in b"\r\n" + data))
def test_a_form_carries_any_bytes(data: bytes) -> None:
    body = (
        b'--b0und\r\nContent-Disposition: form-data; name="key"\r\n\r\nr/name\r\n'
        b'--b0und\r\nContent-Disposition: form-data; filename="f"; name="file"\r\n'
        b"Content-Type: application/json\r\n\r\n" + data + b"\r\n--b0und--\r\n"
    )
    form = parse_form("multipart/form-data; boundary=b0und", body)
    assert form == {"key": b"r/name", "file": data}


@given(st.text(), st.binary())
def test_no_body_breaks_the_form_reader(content_type: str, body: bytes) -> None:
    try:
        parse_form(content_type, body)
        parse_form("multipart/form-data; boundary=x", body)
    except RefusedError as refused:
        assert refused.status == 400  # noqa: PT017


def test_what_follows_the_file_is_ignored() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nlate\r\n--b--\r\n'
    )
    assert parse_form("multipart/form-data; boundary=b", body) == {"file": b"x"}
