"""The front's XML API: what guests ask, by signed URL, by form and with a token."""

from __future__ import annotations

from datetime import datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote, urlencode

from envboot.store.local.server import parse_form
from tests.agent.proxy import Handler
from tests.gcs import (
    JSON,
    PASSED,
    READ_ONLY,
    WRITES,
    Denied,
    Found,
    GcsFront,
)
from tests.gcs_signatures import Refusal, check_form, check_url

if TYPE_CHECKING:
    from collections.abc import Callable


class XmlHandler(Handler):
    """Answers one request to the XML API as Google does."""

    server: GcsFront

    def answer_xml(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        bucket, _, name = unquote(path).lstrip("/").partition("/")
        if not self.server.has_bucket(bucket):
            raise Refusal(status=404, code="NoSuchBucket")
        if self.command == "POST" and not name:
            return self._take_form(bucket, body)
        email = self._identify()
        copied = self.headers.get("x-goog-copy-source")
        verbs = {"GET": "get", "HEAD": "get", "PUT": "create", "DELETE": "delete"}
        needed = [verbs[self.command], *(["get", "delete"] if copied else [])]
        for what in needed:
            self._demand(email, f"storage.objects.{what}", name)
        place = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        if self.command == "PUT":
            found = self._put(bucket, name, body, copied)
        elif self.command == "DELETE":
            found = self.server.ask("DELETE", place)
        else:
            wanted = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
            found = self.server.ask("GET", place + "?alt=media", headers=wanted)
        if found.status == 404:
            self._demand(email, "storage.objects.list", "")
        if found.status >= 300:
            codes = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
            raise Refusal(status=found.status, code=codes.get(found.status, "InternalError"))
        if self.command == "PUT":
            return 200, {}, b"<CopyObjectResult/>" if copied else b""
        if self.command == "DELETE":
            return 204, {}, b""
        headers = {each: found.headers[each] for each in PASSED if found.headers[each]}
        about = self.server.ask("GET", place).document
        made = datetime.fromisoformat(about["timeCreated"].replace("Z", "+00:00")).timestamp()
        headers["Last-Modified"] = formatdate(made - self.server.age, usegmt=True)
        headers["x-goog-generation"] = about["generation"]
        if self.command == "HEAD":
            headers["Content-Length"] = str(len(found.body))
        return found.status, headers, found.body

    def _put(self, bucket: str, name: str, body: bytes, copied: str | None) -> Found:
        wanted = self.headers.get("x-goog-if-generation-match")
        query = {"ifGenerationMatch": wanted} if wanted else {}
        if copied and not self.server.holds(bucket, name, wanted):
            raise Refusal(status=412, code="PreconditionFailed")
        if copied:
            source, _, key = unquote(copied).lstrip("/").partition("/")
            there = f"/b/{bucket}/o/{quote(name, safe='')}?{urlencode(query)}"
            target = f"/storage/v1/b/{source}/o/{quote(key, safe='')}/rewriteTo{there}"
            return self.server.ask("POST", target, b"{}", JSON)
        if key := self.headers.get("x-goog-encryption-kms-key-name", ""):
            self.server.encrypted[f"{bucket}/{name}"] = key
        return self.server.create(bucket, name, body, wanted)

    def _take_form(self, bucket: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        form = parse_form(self.headers.get("Content-Type", ""), body)
        email = check_form(bucket, form, self.server.verifier.verify, self.server.now)
        name = form["key"].decode()
        self._demand(email, "storage.objects.create", name)
        self._put(bucket, name, form["file"], None)
        return 204, {}, b""

    def _identify(self) -> str:
        """Return who asks."""
        if "X-Goog-Signature" in self.path:
            verify = cast("Callable[[bytes, bytes], bool]", self.server.verifier.verify)
            return check_url(self.command, self.path, self.headers, verify, self.server.now)
        if "Authorization" not in self.headers:
            raise Refusal(status=403, code="AccessDenied", details="Anonymous caller")
        try:
            session = self.server.find_session(self.headers["Authorization"])
        except Denied:
            challenge = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
            raise Refusal(status=401, code="AuthenticationRequired", challenge=challenge) from None
        wanted = WRITES if self.command in ("PUT", "DELETE") else (*WRITES, READ_ONLY)
        if not set(wanted) & set(session.scopes):
            raise Refusal(
                status=403,
                code="AccessDenied",
                details="Provided scope(s) are not authorized",
                challenge=f'Bearer error="insufficient_scope", scope="{" ".join(wanted)}"',
            )
        return session.email

    def _demand(self, email: str, permission: str, name: str) -> None:
        if not self.server.may(email, permission, name):
            words = f"{email} does not have {permission} access"
            raise Refusal(status=403, code="AccessDenied", details=words)
