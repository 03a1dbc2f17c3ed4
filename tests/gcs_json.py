"""The front's requests: tokens, signatures by IAM, the JSON API."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import datetime, timedelta
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from google.auth import jwt

from tests.gcs import (
    JSON,
    PASSED,
    SETTINGS,
    Denied,
)
from tests.gcs_signatures import Refusal
from tests.gcs_uploads import PIECE
from tests.gcs_xml import XmlHandler


class GcsHandler(XmlHandler):
    """Answers one request as Google does."""

    def do_PATCH(self) -> None:
        self._pass()

    def _pass(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise NotImplementedError
        promised = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(promised)
        if len(body) < promised:
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        what = self.server.find_fault(f"{self.command} {parts.path}")
        if what == "keep half" and "upload_id=" in self.path:
            upload = self.server.uploads[self.path.rpartition("upload_id=")[2]]
            upload.data += body[: len(body) // 2 // PIECE * PIECE]
            what = "hang up"
        if what == "hang up":
            self.close_connection = True
            return
        is_json = parts.path.startswith(("/storage/", "/upload/", "/download/"))
        if re.fullmatch(r"\d+.*", str(what)):
            number, _, code = str(what).partition(" ")
            self._refuse(int(number), code or "SlowDown", "Bad day", is_json=is_json)
            return
        try:
            status, headers, data = self._find_answer(parts.path, body, is_json=is_json)
        except Refusal as refusal:
            if refusal.status not in (404, 412, 416):
                self.server.refused.append(refusal.code)
            extra = {"WWW-Authenticate": refusal.challenge} if refusal.challenge else {}
            self._answer(refusal.status, refusal.document, headers=extra)
            return
        except Denied as denied:
            self.server.refused.append(denied.reason)
            self._refuse(denied.status, denied.reason, str(denied), is_json=True)
            return
        if what == "lose the answer":
            self.close_connection = True
            return
        self._answer(status, data, cut=what == "cut", headers=headers)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the time of the answer, by this service's clock."""
        return formatdate(timestamp or self.server.now, usegmt=True)

    def _find_answer(
        self, path: str, body: bytes, *, is_json: bool
    ) -> tuple[int, dict[str, str], bytes]:
        if path == "/token":
            return self._give_token(body)
        if path.startswith("/v1/projects/-/serviceAccounts/"):
            return self._act_for(path, body)
        return self._answer_json(path, body) if is_json else self.answer_xml(path, body)

    def _refuse(self, status: int, reason: str, message: str, *, is_json: bool) -> None:
        if not is_json:
            self._answer(status, Refusal(status=status, code=reason, details=message).document)
            return
        errors = [{"reason": reason, "message": message, "domain": "global"}]
        error = {"error": {"code": status, "message": message, "errors": errors}}
        self._answer(status, json.dumps(error).encode(), headers=JSON)

    # Tokens and signatures.

    def _give_token(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Take a text that an account's key has signed (RFC 7523) for a token."""
        form = dict(parse_qsl(body.decode()))
        if form["grant_type"] == "refresh_token":
            found = self.server.issue("someone@example.test")
            return 200, JSON, json.dumps(found).encode()
        claims: Any = jwt.decode(form["assertion"], verify=False)
        words = ""
        if not claims["iat"] - 300 <= self.server.now <= claims["exp"] + 300:
            words = "Invalid JWT: Token must be a short-lived token (60 minutes)"
        signed, _, signature = form["assertion"].rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        if not self.server.verifier.verify(signed.encode(), raw):
            words = "Invalid JWT Signature."
        if words:
            text = json.dumps({"error": "invalid_grant", "error_description": words})
            return 400, JSON, text.encode()
        found = self.server.issue(claims["iss"], 3600, *claims["scope"].split())
        return 200, JSON, json.dumps(found).encode()

    def _act_for(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Sign as another account, or give its token."""
        email, _, action = unquote(path.rpartition("/")[2]).partition(":")
        asker = self.server.find_session(self.headers.get("Authorization", ""))
        permission = "getAccessToken" if action == "generateAccessToken" else action
        needed = f"iam.serviceAccounts.{permission}"
        if not self.server.may(asker.email, needed, email):
            raise Denied(403, f"Permission '{needed}' denied on resource (or it may not exist).")
        if action == "signBlob":
            payload = base64.b64decode(json.loads(body)["payload"])
            signature = base64.b64encode(self.server.signer.sign(payload)).decode()
            return 200, JSON, json.dumps({"keyId": "1", "signedBlob": signature}).encode()
        token = self.server.issue(email)["access_token"]
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        return 200, JSON, json.dumps({"accessToken": token, "expireTime": end}).encode()

    def _check(self, email: str, permission: str, bucket: str, name: str) -> None:
        if not self.server.may(email, permission, name):
            raise Denied(
                403,
                f"{email} does not have {permission} access to the Google Cloud Storage "
                f"{'object' if name else 'bucket'}. Permission '{permission}' denied on resource "
                "(or it may not exist).",
            )

    # The JSON API.

    def _answer_json(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        query = dict(parse_qsl(urlsplit(self.path).query))
        if "upload_id" in query:
            return self._take_piece(query["upload_id"], body)
        session = self.server.find_session(self.headers.get("Authorization", ""))
        if path == "/storage/v1/b":
            bucket, name = json.loads(body)["name"], ""
            self._check(session.email, "storage.buckets.create", bucket, "")
            if self.server.has_bucket(bucket):
                raise Denied(409, "Your previous request to create the named bucket succeeded")
            self.server.settings[bucket] = _only_settings(json.loads(body))
        else:
            bucket, _, name = path.partition("/b/")[2].partition("/o")
            name = unquote(name.partition("/rewriteTo/")[0].removeprefix("/"))
            if path.startswith("/upload/"):
                name = query.get("name") or _find_name(body)
            for permission in self._needed(path, name):
                self._check(session.email, permission, bucket, name)
            if not self.server.has_bucket(bucket):
                raise Denied(404, "The specified bucket does not exist.", "notFound")
            if self.command == "PATCH":
                self._change(bucket, json.loads(body))
        if key := query.get("kmsKeyName") or query.get("destinationKmsKeyName"):
            self.server.encrypted[f"{bucket}/{name}"] = key
        if query.get("uploadType") == "resumable":
            return self._begin(bucket, name, query.get("ifGenerationMatch"))
        if "/rewriteTo/" in path and not self.server.holds(
            bucket, name, query.get("ifGenerationMatch")
        ):
            raise Denied(412, "At least one of the pre-conditions did not hold.", "conditionNotMet")
        status, headers, data = self._pass_on(body)
        if status == 404 and not self.server.may(session.email, "storage.objects.list", ""):
            self._check(session.email, "storage.objects.list", bucket, "")
        if headers.get("Content-Type", "").startswith("application/json") and data and status < 300:
            data = self._complete(json.loads(data), bucket)
        return status, headers, data

    def _begin(
        self, bucket: str, name: str, condition: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        found = self.server.ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")
        if condition == "0" and found.status == 200:
            raise Denied(412, "At least one of the pre-conditions did not hold.", "conditionNotMet")
        upload_id = self.server.uploads.begin(bucket, name, condition)
        place = f"{self.server.endpoint}/upload/storage/v1/b/{bucket}/o?upload_id={upload_id}"
        return 200, {"Location": place}, b""

    def _take_piece(self, upload_id: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self.server.uploads[upload_id]
        if upload.answer is None:
            status = upload.take(self.headers.get("Content-Range", ""), body)
            if status:
                return status, upload.span, b""
            found = self.server.create(upload.bucket, upload.name, upload.data, upload.condition)
            upload.answer = found.status, found.body
        return upload.answer[0], JSON, upload.answer[1]

    def _needed(self, path: str, name: str) -> tuple[str, ...]:
        if "/rewriteTo/" in path:
            return tuple(f"storage.objects.{what}" for what in ("get", "create", "delete"))
        if name:
            verbs = {"GET": "get", "DELETE": "delete", "POST": "create", "PATCH": "update"}
            return (f"storage.objects.{verbs[self.command]}",)
        if path.endswith("/o"):
            return ("storage.objects.list" if self.command == "GET" else "storage.objects.create",)
        return ("storage.buckets.get" if self.command == "GET" else "storage.buckets.update",)

    def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        found = self.server.ask(self.command, self.path, body, headers)
        passed = {name: found.headers[name] for name in PASSED if found.headers[name]}
        return found.status, passed, found.body

    def _change(self, bucket: str, changes: dict[str, Any]) -> None:
        kept = self.server.settings.setdefault(bucket, {})
        for name, value in _only_settings(changes).items():
            merged = {**kept.get(name, {}), **value} if isinstance(value, dict) else value
            kept[name] = value if name == "lifecycle" else merged

    def _complete(self, document: dict[str, Any], bucket: str) -> bytes:
        kind = document.get("kind", "")
        if kind == "storage#bucket":
            document |= self.server.settings.get(bucket, {})
        for found in [document, *document.get("items", [])]:
            if "timeCreated" in found and found.get("kind") == "storage#object":
                key = self.server.encrypted.get(f"{bucket}/{found['name']}")
                found |= {"kmsKeyName": f"{key}/cryptoKeyVersions/1"} if key else {}
                made = datetime.fromisoformat(found["timeCreated"].replace("Z", "+00:00"))
                moved = made - timedelta(seconds=self.server.age)
                found["timeCreated"] = moved.isoformat().replace("+00:00", "Z")
        return json.dumps(document).encode()


def _only_settings(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in SETTINGS if name in document}


def _find_name(body: bytes) -> str:
    """Return the name in the JSON that an upload begins with."""
    found = re.search(rb'"name": *("(?:[^"\\\\]|\\\\.)*")', body[:4000])
    return str(json.loads(found[1])) if found else ""
