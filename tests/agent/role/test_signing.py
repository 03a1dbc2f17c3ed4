"""The agent's signatures are those of botocore, for any key, query and header."""

from __future__ import annotations

import calendar
import hashlib
import time
from datetime import datetime
from unittest import mock
from urllib.parse import quote

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from envboot.agent import aws

KEYS = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret/+=", "Token": "to/ken+=="}
NOW = calendar.timegm((2026, 11, 24, 3, 4, 5))
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/"),
    min_size=1,
)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


def sign_like_botocore(method: str, url: str, headers: dict[str, str], region: str) -> str:
    request = AWSRequest(
        method, url, headers={**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    )
    keys = Credentials(KEYS["AccessKeyId"], KEYS["SecretAccessKey"], KEYS["Token"])
    moment = mock.Mock(return_value=datetime(2026, 11, 24, 3, 4, 5))
    with mock.patch.object(auth, "get_current_datetime", moment):
        signer = auth.S3SigV4Auth(keys, "s3", region)
        with mock.patch.object(signer, "payload", return_value="UNSIGNED-PAYLOAD"):
            signer.add_auth(request)
    signature: str = request.headers["Authorization"]
    return signature


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    host=st.sampled_from(["b.s3.eu-central-1.amazonaws.com", "127.0.0.1:8333"]),
    parts=st.lists(TEXT, min_size=1, max_size=4),
    query=st.lists(
        st.tuples(TEXT, st.text(st.characters(codec="utf-8"))),
        max_size=3,
    ),
    headers=st.dictionaries(
        NAMES.map(lambda name: f"x-amz-meta-{name.lower()}"), VALUES, max_size=3
    ),
)
@example(method="GET", host="h", parts=["a b", "ü", "~", "+", "%2F", "="], query=[], headers={})
@example(
    method="PUT",
    host="h",
    parts=["k"],
    query=[("b", ""), ("a", "2"), ("a", "1")],
    headers={"Range": "bytes=0-0"},
)
def test_signatures_are_those_of_botocore(
    method: str,
    host: str,
    parts: list[str],
    query: list[tuple[str, str]],
    headers: dict[str, str],
) -> None:
    path = "/".join(quote(part, safe="") for part in parts)
    tail = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    url = f"http://{host}/{path}" + (f"?{tail}" if tail else "")
    signed = aws.sign(method, url, headers, KEYS, "eu-central-1/s3", NOW)
    assert signed["Authorization"] == sign_like_botocore(method, url, headers, "eu-central-1")
    assert signed["Host"] == host
    assert signed["X-Amz-Security-Token"] == KEYS["Token"]
    assert {name: signed[name] for name in headers} == headers


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://h/a%7eb", "http://h/a~b"),
        ("http://h/%e2%82%ac", "http://h/%E2%82%AC"),
        ("http://h/a+b", "http://h/a%2Bb"),
        ("http://h", "http://h/"),
    ],
)
def test_a_url_that_is_encoded_otherwise_is_signed_as_the_bucket_reads_it(
    url: str, same: str
) -> None:
    """S3 decodes the path and encodes it in its own way before it checks."""
    one, other = (aws.sign("GET", each, {}, KEYS, "us-east-1/s3", NOW) for each in (url, same))
    assert one == other


def test_the_time_is_the_one_given_and_not_the_clock() -> None:
    assert aws.sign("GET", "http://h/", {}, KEYS, "r/s3", 0)["X-Amz-Date"] == "19700101T000000Z"
    assert abs(time.time() - NOW) > 1


def test_a_request_to_another_service_is_signed_with_its_body() -> None:
    body, headers = b'{"SecretId": "x"}', {"X-Amz-Target": "secretsmanager.GetSecretValue"}
    headers["X-Amz-Content-Sha256"] = hashlib.sha256(body).hexdigest()
    url = "https://secretsmanager.eu-west-1.amazonaws.com/"
    request = AWSRequest("POST", url, headers=headers, data=body)
    keys = Credentials(KEYS["AccessKeyId"], KEYS["SecretAccessKey"], KEYS["Token"])
    moment = mock.Mock(return_value=datetime(2026, 11, 24, 3, 4, 5))
    with mock.patch.object(auth, "get_current_datetime", moment):
        auth.SigV4Auth(keys, "secretsmanager", "eu-west-1").add_auth(request)
    signed = aws.sign("POST", url, headers, KEYS, "eu-west-1/secretsmanager", NOW)
    assert signed["Authorization"] == request.headers["Authorization"]
