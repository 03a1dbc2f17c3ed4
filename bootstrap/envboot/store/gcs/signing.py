"""Form uploads for Cloud Storage: a V4 policy document, signed. Pure, but for the signature."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from google.auth.credentials import Signing

ALGORITHM = "GOOG4-RSA-SHA256"


def sign_form(
    signer: Signing, bucket: str, prefix: str, *, max_bytes: int, seconds: int, now: datetime
) -> dict[str, str]:
    """Return the fields of a form for any key below `prefix`.

    Google's client makes forms for one key only
    (https://docs.cloud.google.com/storage/docs/authentication/signatures#policy-document).
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    email = signer.signer_email
    fields = {
        "x-goog-algorithm": ALGORITHM,
        "x-goog-credential": f"{email}/{stamp[:8]}/auto/storage/goog4_request",
        "x-goog-date": stamp,
    }
    document = {
        "conditions": [
            {"bucket": bucket},
            ["starts-with", "$key", prefix],
            ["content-length-range", 0, max_bytes],
            *({name: value} for name, value in fields.items()),
        ],
        "expiration": (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    text = json.dumps(document, separators=(",", ":"))
    policy = base64.b64encode(text.encode())
    signature: bytes = signer.sign_bytes(policy)
    return {**fields, "policy": policy.decode(), "x-goog-signature": signature.hex()}
