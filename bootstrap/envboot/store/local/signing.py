"""Signed URLs and upload policies of the local store, after S3's own. Pure.

A signature covers method, key, expiry and the signed headers, not the host: the guest may
reach the same server by another name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

FORM_FIELDS = frozenset({"key", "policy", "signature", "file"})


class RefusedError(Exception):
    """A request that is answered with an error document: HTTP status, S3's code, words.

    `signed` is whether its signature is right all the same.
    """

    def __init__(self, status: int, code: str, message: str, signed: bool = False):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.signed = signed


MISMATCH = (403, "SignatureDoesNotMatch", "The signature does not match the request")
EXPIRED = (403, "AccessDenied", "Request has expired", True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What one form upload may do: keys that begin with `prefix`, at most `max_bytes` each."""

    prefix: str
    max_bytes: int
    expires: int


class UrlSigner:
    """Signs with one secret, and checks what was signed with it."""

    def __init__(self, secret: bytes):
        self._secret = secret

    def _signature(self, *parts: Any) -> str:
        text = json.dumps(parts, separators=(",", ":"))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def sign(
        self, method: str, key: str, expires: int, headers: Mapping[str, str] | None = None
    ) -> str:
        """Return the path and query that permit one method on one key until `expires` (Unix)."""
        named = sorted((name.lower(), value) for name, value in (headers or {}).items())
        query = {
            "X-Envboot-Expires": str(expires),
            "X-Envboot-SignedHeaders": ";".join(name for name, _ in named),
            "X-Envboot-Signature": self._signature("url", method, key, expires, named),
        }
        return f"/{quote(key)}?{urlencode(query)}"

    def check(
        self, method: str, key: str, query: str, headers: Mapping[str, str] | Message, now: float
    ) -> None:
        """Accept a request that was signed and is in time; `headers` ignores case.

        Raises:
            RefusedError: 403, with S3's code.
        """
        given = dict(parse_qsl(query, keep_blank_values=True))
        try:
            expires = int(given["X-Envboot-Expires"])
            names = [name for name in given["X-Envboot-SignedHeaders"].split(";") if name]
            signature = given["X-Envboot-Signature"]
        except (KeyError, ValueError):
            raise RefusedError(403, "AccessDenied", "Access Denied") from None
        named = [(name, headers.get(name, "")) for name in names]
        if not _same(signature, self._signature("url", method, key, expires, named)):
            raise RefusedError(*MISMATCH)
        if now >= expires:
            raise RefusedError(*EXPIRED)

    def sign_policy(self, policy: Policy) -> dict[str, str]:
        """Return the form fields that permit the uploads of a policy."""
        document = {"prefix": policy.prefix, "max": policy.max_bytes, "expires": policy.expires}
        text = base64.b64encode(json.dumps(document).encode()).decode()
        return {"policy": text, "signature": self._signature("policy", text)}

    def check_form(self, form: Mapping[str, bytes], now: float) -> str:
        """Return the key of a form upload that its policy permits.

        Raises:
            RefusedError: 403, or 400 `EntityTooLarge`, with S3's code.
        """
        missing = FORM_FIELDS - form.keys()
        extra = form.keys() - FORM_FIELDS
        if missing or extra:
            names = ", ".join(sorted(missing or extra))
            words = "lacks" if missing else "has extra"
            raise RefusedError(403, "AccessDenied", f"The form {words} fields: {names}")
        text = form["policy"].decode(errors="replace")
        if not _same(form["signature"].decode(errors="replace"), self._signature("policy", text)):
            raise RefusedError(*MISMATCH)
        policy = _read_policy(text)
        if now >= policy.expires:
            raise RefusedError(*EXPIRED)
        key = form["key"].decode(errors="replace")
        if not key.startswith(policy.prefix):
            raise RefusedError(
                403, "AccessDenied", f"The key does not begin with {policy.prefix}", True
            )
        if len(form["file"]) > policy.max_bytes:
            raise RefusedError(
                400, "EntityTooLarge", f"At most {policy.max_bytes} bytes are allowed", True
            )
        return key


def _read_policy(text: str) -> Policy:
    try:
        document = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise RefusedError(*MISMATCH) from None
    return Policy(prefix=document["prefix"], max_bytes=document["max"], expires=document["expires"])


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
