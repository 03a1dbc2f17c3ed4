"""What AWS has in front of a bucket and SeaweedFS has not: temporary credentials with a token.

A proxy that knows the credentials it has issued. It checks each request's signature with
botocore's own signer, token, end and time, says what S3 says where one is wrong, and passes the
request on signed with a key pair of the server's, which verifies that signature in turn.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.agent.proxy import Handler, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Identity

REGION = "us-east-1"
SKEW = 900


@dataclass(kw_only=True, slots=True)
class Session:
    """Temporary credentials; they may be revoked by a test."""

    secret_key: str
    token: str
    end: float
    revoked: bool = False


class Gate(Proxy):
    """Stands before an S3 server and lets roles in.

    `may` says of method and key whether the policy allows it, `may_list` whether a missing key
    is told from one that is denied. `age` is by how many seconds objects look older than they are.
    `hasty` refuses before the body was read, and hangs up, as services do with large uploads.
    """

    def __init__(self, endpoint: str, identity: Identity, *, host: str = "127.0.0.1") -> None:
        super().__init__(urlsplit(endpoint).port or 80, GateHandler, host=host)
        self.netloc = urlsplit(endpoint).netloc
        self.identity = identity
        self.sessions: dict[str, Session] = {}
        self.may: Callable[[str, str], bool] = lambda method, key: bool(method and key)
        self.may_list = True
        self.age = 0.0
        self.hasty = False
        self.refused: list[str] = []

    def issue(self, seconds: float) -> dict[str, str]:
        """Return new credentials as the metadata service gives them."""
        key = f"ASIA{secrets.token_hex(8).upper()}"
        end = time.time() + seconds
        session = Session(
            secret_key=secrets.token_urlsafe(30), token=secrets.token_urlsafe(200), end=end
        )
        self.sessions[key] = session
        stamp = datetime.fromtimestamp(end, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": key,
            "SecretAccessKey": session.secret_key,
            "Token": session.token,
            "Expiration": stamp,
        }


class GateHandler(Handler):
    """Checks one request as S3 does."""

    server: Gate

    def _pass(self) -> None:
        refusal = self._check() if self.server.hasty else None
        if refusal and int(self.headers.get("Content-Length", 0)) > 100_000:
            self.server.refused.append(f"hasty {refusal[1]}")
            self._answer(refusal[0], f"<Error><Code>{refusal[1]}</Code></Error>".encode())
            self.close_connection = True
            return
        super()._pass()

    def admit(self, headers: dict[str, str]) -> tuple[int, bytes] | None:
        """Refuse what S3 would refuse; sign anew what passes."""
        refusal = self._check()
        if refusal:
            self.server.refused.append(refusal[1])
            return refusal[0], f"<Error><Code>{refusal[1]}</Code></Error>".encode()
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() in ("range", "if-none-match", "content-length")
            or name.lower().startswith(("x-amz-copy", "x-amz-meta"))
        }
        kept["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
        request = AWSRequest(self.command, f"http://{self.server.netloc}{self.path}", headers=kept)
        who = self.server.identity
        S3SigV4Auth(Credentials(who.access_key, who.secret_key), "s3", REGION).add_auth(request)
        headers.clear()
        headers.update(request.headers.items())
        return None

    def judge(self, status: int, data: bytes) -> tuple[int, bytes]:
        """Tell nobody that a key is missing who may not list the bucket."""
        if status == 404 and not self.server.may_list:
            self.server.refused.append("AccessDenied")
            return 403, b"<Error><Code>AccessDenied</Code></Error>"
        return status, data

    def _answer(
        self, status: int, body: bytes, *, cut: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        if headers and "Last-Modified" in headers:
            modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
            headers["Last-Modified"] = formatdate(modified - self.server.age, usegmt=True)
        super()._answer(status, body, cut=cut, headers=headers)

    def _check(self) -> tuple[int, str] | None:
        """Return the status and code of S3's refusal."""
        given = self.headers.get("Authorization", "")
        kind, _, rest = given.partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if kind != "AWS4-HMAC-SHA256" or fields.keys() != {
            *("Credential", "SignedHeaders", "Signature")
        }:
            return 403, "AccessDenied"
        key, _, scope = fields["Credential"].partition("/")
        session = self.server.sessions.get(key)
        if session is None:
            return 403, "InvalidAccessKeyId"
        stamp = self.headers["X-Amz-Date"]
        date = datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        if abs(date - time.time()) > SKEW:
            return 403, "RequestTimeTooSkewed"
        if self.headers.get("X-Amz-Security-Token") != session.token:
            return 400, "InvalidToken"
        if session.revoked or time.time() >= session.end:
            return 400, "ExpiredToken"
        names = fields["SignedHeaders"].split(";")
        needed = {name.lower() for name in self.headers if name.lower().startswith("x-amz-")}
        if scope != f"{stamp[:8]}/{REGION}/s3/aws4_request" or not needed | {"host"} <= set(names):
            return 403, "AccessDenied"
        if self._sign(key, session, stamp, names) != fields["Signature"]:
            return 403, "SignatureDoesNotMatch"
        path = unquote(urlsplit(self.path).path)
        return None if self.server.may(self.command, path) else (403, "AccessDenied")

    def _sign(self, key: str, session: Session, stamp: str, names: list[str]) -> str:
        url = f"http://{self.headers['Host']}{self.path}"
        headers = {name: self.headers[name] for name in names}
        request = AWSRequest(self.command, url, headers=headers)
        request.context["timestamp"] = stamp
        signer = S3SigV4Auth(Credentials(key, session.secret_key, session.token), "s3", REGION)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        signature: str = signer.signature(text, request)
        return signature
