"""V4 signatures of Cloud Storage, checked: URLs and policy documents. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    Verify = Callable[[bytes, bytes], bool]

ALGORITHM = "GOOG4-RSA-SHA256"
SKEW = 900
WEEK = 7 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal(Exception):  # noqa: N818 - what the service answers
    """An answer of the XML API that refuses."""

    status: int
    code: str
    details: str = ""
    challenge: str = ""

    @property
    def document(self) -> bytes:
        """The error document."""
        return (
            f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{self.code}</Code><Message>Refused"
            f"</Message><Details>{self.details}</Details></Error>"
        ).encode()


def check_url(method: str, target: str, headers: Message, verify: Verify, now: float) -> str:
    """Return who signed a request; `verify` checks a signature with the account's public key.

    https://docs.cloud.google.com/storage/docs/authentication/canonical-requests

    Raises:
        Refusal: it was not signed so, or is not in time.
    """
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    try:
        signature = bytes.fromhex(query.pop("X-Goog-Signature"))
        email, date, *scope = query["X-Goog-Credential"].split("/")
        stamp, seconds = query["X-Goog-Date"], int(query["X-Goog-Expires"])
        names = query["X-Goog-SignedHeaders"].split(";")
    except (KeyError, ValueError):
        raise Refusal(status=403, code="SignatureDoesNotMatch") from None
    if scope != ["auto", "storage", "goog4_request"] or not stamp.startswith(date):
        raise Refusal(status=403, code="SignatureDoesNotMatch")
    if not 0 < seconds <= WEEK:
        raise Refusal(status=400, code="InvalidArgument")
    needed = {name.lower() for name in headers if name.lower().startswith("x-goog-")} | {"host"}
    if missing := [name for name in names if name not in headers]:
        raise Refusal(status=400, code="MalformedSecurityHeader", details=missing[0])
    if not needed <= set(names):
        raise Refusal(status=400, code="MalformedSecurityHeader", details="not signed")
    request = [
        method,
        parts.path,
        "&".join(f"{_encode(name)}={_encode(query[name])}" for name in sorted(query)),
        *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(names)),
        "",
        query["X-Goog-SignedHeaders"],
        "UNSIGNED-PAYLOAD",
    ]
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    text = "\n".join([ALGORITHM, stamp, "/".join([date, *scope]), digest])
    if query["X-Goog-Algorithm"] != ALGORITHM or not verify(text.encode(), signature):
        raise Refusal(status=403, code="SignatureDoesNotMatch")
    signed = _read_time(stamp, "%Y%m%dT%H%M%SZ")
    if signed > now + SKEW:
        raise Refusal(status=403, code="AccessDenied", details="Request is not yet valid")
    if now >= signed + seconds:
        raise Refusal(status=400, code="ExpiredToken", details="Request signature expired")
    return email


def check_form(bucket: str, form: Mapping[str, bytes], verify: Verify, now: float) -> str:
    """Return who signed the policy of a form that it permits.

    Raises:
        Refusal: the form is other than its policy, or not in time.
    """
    fields = {name: value.decode(errors="replace") for name, value in form.items()}
    fields["bucket"] = bucket
    if not {"key", "policy", "x-goog-signature", "x-goog-credential", "file"} <= fields.keys():
        raise Refusal(status=403, code="AccessDenied")
    try:
        signature = bytes.fromhex(fields.pop("x-goog-signature"))
    except ValueError:
        raise Refusal(status=403, code="SignatureDoesNotMatch") from None
    policy = fields.pop("policy")
    if not verify(policy.encode(), signature):
        raise Refusal(status=403, code="SignatureDoesNotMatch")
    document = json.loads(base64.b64decode(policy))
    if now >= _read_time(document["expiration"], "%Y-%m-%dT%H:%M:%SZ"):
        raise Refusal(status=400, code="InvalidPolicyDocument", details="Policy expired.")
    asked = _Conditions(document["conditions"])
    if len(form["file"]) > asked.most:
        raise Refusal(status=400, code="EntityTooLarge")
    for name, value in fields.items():
        if name != "file" and not asked.permit(name, value):
            raise Refusal(status=400, code="InvalidPolicyDocument", details=name)
    return fields["x-goog-credential"].split("/")[0]


class _Conditions:
    def __init__(self, conditions: list[Any]) -> None:
        exact = [condition for condition in conditions if isinstance(condition, dict)]
        self.exact = {name: value for each in exact for name, value in each.items()}
        self.starts: dict[str, str] = {}
        self.most = 0
        for condition in conditions:
            if isinstance(condition, list) and condition[0] == "starts-with":
                self.starts[condition[1].removeprefix("$")] = condition[2]
            if isinstance(condition, list) and condition[0] == "content-length-range":
                self.most = condition[2]

    def permit(self, name: str, value: str) -> bool:
        if name in self.exact:
            return bool(self.exact[name] == value)
        return name in self.starts and value.startswith(self.starts[name])


def _encode(text: str) -> str:
    return quote(text, safe="~")


def _read_time(text: str, form: str) -> float:
    return datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
