"""Requests and answers between the gate and moto: signed anew, and refused in AWS's words."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import zlib
from dataclasses import dataclass, replace
from email.parser import BytesParser
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from tests.policies.documents import VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.credentials import Credentials

    from tests.policies.account import Identity
    from tests.policies.documents import Need

_OWN = ("connection", "content-length", "date", "server", "transfer-encoding")
_SIGNED = ("authorization", "host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """A request as it goes on to moto."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def take_in(request: Wire, identities: Mapping[str, Identity]) -> tuple[Wire, Identity] | None:
    """Return the request as one with a signature in its header, and whose it is; None: nobody's.

    moto knows neither signed URLs nor forms. Both carry the rights of who signed them; that such
    signatures are right is the matter of other tests.
    """
    given = request.headers.get("Authorization", "")
    if given:
        who = identities.get(given.partition("Credential=")[2].partition("/")[0])
        return (request, who) if who else None
    path, _, text = request.path.partition("?")
    query = parse_qs(text, keep_blank_values=True)
    if "X-Amz-Credential" in query:
        rest = {name: found[0] for name, found in query.items() if not name.startswith("X-Amz-")}
        who = identities.get(query["X-Amz-Credential"][0].partition("/")[0])
        plain = replace(request, path=f"{path}?{urlencode(rest)}" if rest else path)
    elif request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        fields = _read_form(request)
        data = fields.pop("file")
        texts = {name: value.decode() for name, value in fields.items()}
        who = identities.get(texts["x-amz-credential"].partition("/")[0])
        secret = {name: value for name, value in texts.items() if "encryption" in name}
        plain = Wire(
            method="PUT",
            path=f"{path.rstrip('/')}/{quote(texts['key'])}",
            headers={"Host": request.headers["Host"], **secret},
            body=data,
        )
    else:
        return None
    return (sign(plain, who.credentials), who) if who else None


def _read_form(request: Wire) -> dict[str, bytes]:
    kind = request.headers["Content-Type"].encode()
    form = BytesParser().parsebytes(b"Content-Type: " + kind + b"\r\n\r\n" + request.body)
    fields: dict[str, bytes] = {}
    for part in form.walk():
        value = part.get_payload(decode=True)
        if isinstance(value, bytes):
            fields[str(part.get_param("name", header="Content-Disposition"))] = value
    return fields


def sign(request: Wire, credentials: Credentials) -> Wire:
    """Return the request, signed by somebody in its header."""
    kept = {name: text for name, text in request.headers.items() if name.lower() not in _SIGNED}
    kept = {name: text for name, text in kept.items() if name.lower() not in _OWN}
    kept["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    url = f"http://{request.headers['Host']}{request.path}"
    made = AWSRequest(request.method, url, headers=kept)
    S3SigV4Auth(credentials, "s3", VALUES["REGION"]).add_auth(made)
    return replace(request, headers={"Host": request.headers["Host"], **dict(made.headers.items())})


def send(port: int, request: Wire) -> Reply:
    """Send a request to a port of loopback."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {name: text for name, text in request.headers.items() if name.lower() not in _OWN}
    with contextlib.closing(link):
        link.request(request.method, request.path, request.body or None, headers)
        answer = link.getresponse()
        kept = {name: text for name, text in answer.headers.items() if name.lower() not in _OWN}
        body = answer.read()
        if request.method == "HEAD":
            kept["Content-Length"] = answer.headers.get("Content-Length", "0")
        return Reply(status=answer.status, headers=kept, body=body)


def refuse(service: str, who: str, need: Need, request: Wire) -> Reply:
    """Return AWS's answer where no policy allows something.

    EC2 says nothing but in a code that STS reads, S3 no more than that; of a key of KMS it says
    all, as the other services do.
    """
    words = (
        f"User: {who} is not authorized to perform: {need.action} on resource: {need.resource} "
        f"because no identity-based policy allows the {need.action} action"
    )
    if service == "ec2":
        message = (
            "You are not authorized to perform this operation. "
            f"Encoded authorization failure message: {encode(who, need)}"
        )
        body = _error("UnauthorizedOperation", message, "<Response><Errors>{}</Errors></Response>")
    elif service == "s3":
        shown = words if need.action.startswith("kms:") else "Access Denied"
        body = b"" if request.method == "HEAD" else _error("AccessDenied", shown, "{}")
    elif "X-Amz-Target" in request.headers:
        body = json.dumps({"__type": "AccessDeniedException", "Message": words}).encode()
    else:
        body = _error("AccessDenied", words, "<ErrorResponse>{}</ErrorResponse>")
    status = 400 if "X-Amz-Target" in request.headers else 403
    return Reply(status=status, headers={}, body=body)


def _error(code: str, message: str, frame: str) -> bytes:
    return frame.format(f"<Error><Code>{code}</Code><Message>{message}</Message></Error>").encode()


def encode(who: str, need: Need) -> str:
    """Return what EC2 says of a refusal, for `sts:DecodeAuthorizationMessage` to read."""
    document = {
        "allowed": False,
        "explicitDeny": False,
        "context": {
            "principal": {"arn": who},
            "action": need.action,
            "resource": need.resource,
        },
    }
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(document).encode())).decode()


def decode(body: bytes) -> bytes:
    """Return STS's answer to a DecodeAuthorizationMessage."""
    found = dict(parse_qsl(body.decode()))["EncodedMessage"]
    text = zlib.decompress(base64.urlsafe_b64decode(unquote(found))).decode()
    shown = text.replace("&", "&amp;").replace("<", "&lt;")
    answer = f"<DecodedMessage>{shown}</DecodedMessage>"
    result = f"<DecodeAuthorizationMessageResult>{answer}</DecodeAuthorizationMessageResult>"
    return (
        f"<DecodeAuthorizationMessageResponse>{result}</DecodeAuthorizationMessageResponse>"
    ).encode()
