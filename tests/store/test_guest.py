"""What a guest may expect of signed URLs, whichever bucket is behind them."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.store.guest import Guest, ask, hang_up_during_put, post

if TYPE_CHECKING:
    from envboot.store.protocol import Store

DATA = os.urandom(100_000)


def tampered(url: str) -> str:
    return url[:-1] + ("0" if url[-1] != "0" else "1")


def lengthened(url: str) -> str:
    """Ask for a later expiry than was signed."""
    parts = urlsplit(url)
    query = [
        (name, str(int(value) + 1) if name.endswith("Expires") else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return parts._replace(query=urlencode(query)).geturl()


def refusal(store: Store) -> int:
    """Return the status of what is signed and not so: Google answers 400 where S3 answers 403."""
    return 400 if store.url.startswith("gs:") else 403


def test_a_signed_url_reads_the_whole_object(store: Store) -> None:
    store.create("dir/with space ü+%.bin", DATA)
    answer = ask("GET", store.sign_get("dir/with space ü+%.bin", 60))
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["content-length"] == "100000"


def test_many_ranges_come_over_one_connection(store: Store) -> None:
    store.create("key", DATA)
    url = store.sign_get("key", 60)
    with Guest(url) as guest:
        guest.ask("GET", url, headers={"Range": "bytes=0-0"})
        first = guest.connection.sock
        for start, end in ((0, 9), (10, 10), (50_000, 99_999), (99_990, 200_000), (0, 99_999)):
            answer = guest.ask("GET", url, headers={"Range": f"bytes={start}-{end}"})
            last = min(end, 99_999)
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes {start}-{last}/100000"
            assert answer.body == DATA[start : last + 1]
        answer = guest.ask("GET", url, headers={"Range": "bytes=99000-"})
        assert (answer.status, answer.body) == (206, DATA[99_000:])
        assert guest.connection.sock is first


def test_a_range_behind_the_end_is_416_and_the_connection_lives(store: Store) -> None:
    store.create("key", DATA)
    url = store.sign_get("key", 60)
    with Guest(url) as guest:
        assert guest.ask("GET", url, headers={"Range": "bytes=100000-100001"}).status == 416
        answer = guest.ask("GET", url, headers={"Range": "bytes=0-1"})
        assert (answer.status, answer.body) == (206, DATA[:2])


def test_an_empty_object_can_be_read(store: Store) -> None:
    store.create("empty", b"")
    answer = ask("GET", store.sign_get("empty", 60))
    assert (answer.status, answer.body) == (200, b"")


def test_a_signed_url_of_a_missing_object_is_404(store: Store) -> None:
    answer = ask("GET", store.sign_get("missing/object", 60))
    assert (answer.status, answer.code) == (404, "NoSuchKey")


def test_only_what_was_signed_can_be_read(store: Store) -> None:
    store.create("key", DATA)
    store.create("other", b"secret")
    url = store.sign_get("key", 60)
    with Guest(url) as guest:
        for wrong in (tampered(url), lengthened(url), url.replace("/key?", "/other?")):
            answer = guest.ask("GET", wrong)
            assert answer.status == 403, wrong
            assert answer.code in ("SignatureDoesNotMatch", "AuthorizationQueryParametersError")
            assert answer.body.count(b"secret") == 0
        unsigned = guest.ask("GET", url.partition("?")[0])
        assert (unsigned.status, unsigned.code) == (403, "AccessDenied")
        assert guest.ask("GET", url).status == 200


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE"])
def test_a_url_for_reading_permits_nothing_else(store: Store, method: str) -> None:
    store.create("key", DATA)
    url = store.sign_get("key", 60)
    body = b"overwritten" if method == "PUT" else None
    headers = store.sign_put("key", 60).headers if method == "PUT" else {}
    assert ask(method, url, body=body, headers=headers).status in (refusal(store), 403, 501)
    assert store.read("key") == DATA


@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_a_url_for_removing_permits_nothing_else(store: Store, method: str) -> None:
    store.create("key", DATA)
    url = store.sign_delete("key", 60)
    body = b"overwritten" if method == "PUT" else None
    headers = store.sign_put("key", 60).headers if method == "PUT" else {}
    assert ask(method, url, body=body, headers=headers).status in (refusal(store), 403, 501)
    assert store.read("key") == DATA


def test_a_url_for_removing_removes_one_object_and_no_other(store: Store) -> None:
    for key in ("a/key ü", "other"):
        store.create(key, DATA)
    url = store.sign_delete("a/key ü", 60)
    for wrong in (tampered(url), lengthened(url), url.replace("/a/key", "/a/other")):
        assert ask("DELETE", wrong).status in (refusal(store), 403)
    assert ask("DELETE", url).status == 204
    assert [each.key for each in store.list("")] == ["other"]
    # Google says that it is gone, S3 that it is as it should be.
    assert ask("DELETE", url).status in (204, 404)


def test_signatures_expire(store: Store) -> None:
    store.create("key", DATA)
    get, put = store.sign_get("key", 1), store.sign_put("new", 1)
    form = store.sign_post("reports/", 1, 1000)
    time.sleep(2.2)
    answer = ask("GET", get)
    assert answer.status == refusal(store)
    assert "xpired" in answer.code + answer.message
    assert ask("PUT", put.url, body=b"late", headers=put.headers).status == refusal(store)
    assert post(form, form.prefix + "late", b"late").status == refusal(store)
    assert [each.key for each in store.list("")] == ["key"]


def test_a_signature_is_still_good_just_before_its_end(store: Store) -> None:
    store.create("key", DATA)
    assert ask("GET", store.sign_get("key", 10)).status == 200


def test_an_upload_creates_the_object(store: Store) -> None:
    put = store.sign_put("new/ü object", 60)
    assert ask("PUT", put.url, body=DATA, headers=put.headers).status == 200
    assert store.read("new/ü object") == DATA


def test_an_upload_never_replaces_an_object(store: Store) -> None:
    put = store.sign_put("key", 60)
    with Guest(put.url) as guest:
        assert guest.ask("PUT", put.url, body=b"first", headers=put.headers).status == 200
        answer = guest.ask("PUT", put.url, body=b"second", headers=put.headers)
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert store.read("key") == b"first"


def test_a_large_upload_that_is_refused_gets_its_answer(store: Store) -> None:
    store.create("key", b"first")
    put = store.sign_put("key", 60)
    answer = ask("PUT", put.url, body=bytes(20 << 20), headers=put.headers)
    assert (answer.status, answer.code) == (412, "PreconditionFailed")


def test_of_eight_uploads_at_once_exactly_one_wins(store: Store) -> None:
    put = store.sign_put("key", 60)
    start = threading.Barrier(8)
    answers: dict[int, int] = {}

    def upload(number: int) -> None:
        start.wait()
        body = b"%d" % number * 200_000
        answers[number] = ask("PUT", put.url, body=body, headers=put.headers).status

    guests = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.join()
    assert len(answers) == 8
    winners = [number for number, status in answers.items() if status == 200]
    assert len(winners) == 1
    assert set(answers.values()) <= {200, 409, 412}
    assert store.read("key") == b"%d" % winners[0] * 200_000


def test_an_upload_must_send_the_signed_headers(store: Store) -> None:
    put = store.sign_put("key", 60)
    assert ask("PUT", put.url, body=b"x").status == refusal(store)
    for name in put.headers:
        assert ask("PUT", put.url, body=b"x", headers={**put.headers, name: '"etag"'}).status == 403
    assert store.find("key") is None


def test_an_upload_goes_to_its_own_key_only(store: Store) -> None:
    put = store.sign_put("key", 60)
    for wrong in (put.url.replace("/key?", "/other?"), tampered(put.url)):
        assert ask("PUT", wrong, body=b"x", headers=put.headers).status == 403
    assert ask("GET", put.url, headers=put.headers).status == 403
    assert list(store.list("")) == []


def test_an_interrupted_upload_leaves_nothing(store: Store) -> None:
    put = store.sign_put("dir/key", 60)
    hang_up_during_put(put.url, put.headers, sent=bytes(300_000), promised=1_000_000)
    time.sleep(0.5)
    assert list(store.list("")) == []
    assert ask("PUT", put.url, body=DATA, headers=put.headers).status == 200
    assert store.read("dir/key") == DATA


def test_a_form_uploads_below_its_prefix(store: Store) -> None:
    form = store.sign_post("reports/one/", 60, 1000)
    payload = b"\r\n--not-the-boundary\0\xff\n\r\n"
    assert post(form, form.prefix + "i-1/a.json", payload).status == 204
    assert store.read("reports/one/i-1/a.json") == payload


def test_a_form_may_replace_its_own_report(store: Store) -> None:
    form = store.sign_post("reports/one/", 60, 1000)
    for text in (b"first", b"second"):
        assert post(form, form.prefix + "a", text).status == 204
    assert store.read("reports/one/a") == b"second"


def test_a_form_outside_its_prefix_is_refused(store: Store) -> None:
    form = store.sign_post("reports/one/", 60, 1000)
    outside = form.prefix.replace("one", "two")
    assert post(form, outside + "a", b"x").status == refusal(store)
    assert post(form, "elsewhere", b"x").status == refusal(store)
    assert list(store.list("")) == []


def test_a_form_over_its_limit_is_refused(store: Store) -> None:
    form = store.sign_post("reports/one/", 60, 1000)
    answer = post(form, form.prefix + "a", bytes(1001))
    assert (answer.status, answer.code) == (400, "EntityTooLarge")
    assert post(form, form.prefix + "b", bytes(1000)).status == 204
    assert [each.key for each in store.list("")] == ["reports/one/b"]


def test_a_form_with_another_policy_is_refused(store: Store) -> None:
    form = store.sign_post("reports/one/", 60, 1000)
    wider = store.sign_post("reports/", 60, 1_000_000)
    answer = post(form, form.prefix + "a", b"x", policy=wider.fields["policy"])
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert list(store.list("")) == []


def test_a_large_object_streams_in_ranges(store: Store) -> None:
    data = os.urandom(1 << 20) * 24
    store.create("large", data)
    url = store.sign_get("large", 60)
    step = 5 << 20
    with Guest(url) as guest:
        parts = [
            guest.ask("GET", url, headers={"Range": f"bytes={at}-{at + step - 1}"}).body
            for at in range(0, len(data), step)
        ]
    assert b"".join(parts) == data
