"""Cloud Storage on loopback: a real Go server, and before it what Google has there.

The server behind keeps objects, their generations and uploads, and believes everybody. The front
checks who asks (V4 signatures, policy documents, tokens that end, scopes, permissions), speaks the
XML API, keeps those settings of buckets that the server forgets, and gives tokens and signatures
as IAM does. Faults strike as in every `Proxy`; one more, `"keep half"`, breaks a resumable upload
off half-way.
"""

from __future__ import annotations

import http.client
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.crypt import RSASigner, RSAVerifier

from tests.agent.proxy import Proxy
from tests.gcs_uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = "team-project"
ADMIN = f"admin@{PROJECT}.iam.gserviceaccount.com"
GUEST = f"guest@{PROJECT}.iam.gserviceaccount.com"
JSON = {"Content-Type": "application/json"}
FULL = "https://www.googleapis.com/auth/cloud-platform"
READ_ONLY = "https://www.googleapis.com/auth/devstorage.read_only"
WRITES = (
    FULL,
    "https://www.googleapis.com/auth/devstorage.read_write",
    "https://www.googleapis.com/auth/devstorage.full_control",
)
SETTINGS = ("iamConfiguration", "lifecycle", "encryption", "softDeletePolicy")
PASSED = (
    "Content-Range",
    "Content-Type",
    "Accept-Ranges",
    "X-Goog-Generation",
    "Location",
    "Range",
)


@dataclass(kw_only=True, slots=True)
class Session:
    """A token; it may be revoked by a test."""

    email: str
    end: float
    scopes: tuple[str, ...] = (FULL,)
    revoked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What the server behind answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON that it is."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Denied(Exception):  # noqa: N818 - what the service answers
    """An answer of the JSON API that refuses."""

    def __init__(self, status: int, message: str, reason: str = "forbidden"):
        super().__init__(message)
        self.status = status
        self.reason = reason


class GcsFront(Proxy):
    """Stands before the Go server.

    `may` says of account, permission and object whether IAM allows it. `age` is by how many
    seconds objects look older than they are, `ahead` by how many this service's clock is ahead.
    """

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        from tests.gcs_json import GcsHandler

        super().__init__(0, GcsHandler, host=host)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private_key = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.signer: Any = RSASigner.from_string(self.private_key)
        self.verifier: Any = RSAVerifier(key.public_key())
        self.sessions: dict[str, Session] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.encrypted: dict[str, str] = {}
        self.uploads = Uploads()
        self.refused: list[str] = []
        self.forget()

    def forget(self) -> None:
        """Be as new, but for the objects."""
        self.may: Callable[[str, str, str], bool] = lambda who, permission, name: True
        self.age = 0.0
        self.ahead = 0.0
        self.faults.clear()
        self.refused.clear()
        self.requests.clear()

    @property
    def endpoint(self) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def now(self) -> float:
        """What time it is here."""
        return time.time() + self.ahead

    def issue(self, email: str, seconds: float = 3600, *scopes: str) -> dict[str, Any]:
        """Return a new token as the metadata server gives it."""
        token = f"ya29.{secrets.token_urlsafe(60)}"
        self.sessions[token] = Session(
            email=email, end=time.time() + seconds, scopes=scopes or (FULL,)
        )
        return {"access_token": token, "expires_in": int(seconds), "token_type": "Bearer"}

    def key_file(self, email: str = ADMIN) -> dict[str, str]:
        """Return a service account's key as the console gives it."""
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": self.private_key,
            "client_email": email,
            "client_id": "1",
            "token_uri": f"{self.endpoint}/token",
        }

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Found:
        """Ask the server behind."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        try:
            upstream.request(method, target, body, headers or {})
            answer = upstream.getresponse()
            return Found(status=answer.status, headers=answer.headers, body=answer.read())
        finally:
            upstream.close()

    def create(self, bucket: str, name: str, data: bytes, condition: str | None) -> Found:
        """Write an object: in parts, where alone the server minds the condition."""
        query = {"uploadType": "multipart"}
        query |= {"ifGenerationMatch": condition} if condition else {}
        edge = secrets.token_hex(16)
        about = json.dumps({"name": name})
        head = f"--{edge}\r\nContent-Type: application/json\r\n\r\n{about}\r\n--{edge}\r\n"
        body = head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + data
        body += f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/related; boundary={edge}"}
        return self.ask("POST", f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}", body, kind)

    def holds(self, bucket: str, name: str, condition: str | None) -> bool:
        """Tell whether an object is of that generation; the server behind copies in any case."""
        found = self.ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")
        there = found.document["generation"] if found.status == 200 else "0"
        return condition is None or there == condition

    def has_bucket(self, bucket: str) -> bool:
        """Tell whether there is such a bucket."""
        return self.ask("GET", f"/storage/v1/b/{bucket}").status == 200

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket."""
        body = json.dumps({"name": bucket}).encode()
        self.ask("POST", "/storage/v1/b", body, {"Content-Type": "application/json"})

    def find_session(self, authorization: str) -> Session:
        """Return whose token that is, by the header of a request.

        Raises:
            Denied: it is none that is still good.
        """
        kind, _, token = authorization.partition(" ")
        session = self.sessions.get(token)
        if kind != "Bearer" or not session or session.revoked or self.now >= session.end:
            raise Denied(401, "Invalid Credentials", "authError")
        return session
