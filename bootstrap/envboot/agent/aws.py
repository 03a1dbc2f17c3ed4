"""Requests signed as the machine's own role: IMDSv2 for the credentials, SigV4 for the bucket."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import socket
import time
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Callable, Dict, Tuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .role import Answer, Asker
from .wire import AgentError, parse

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
TOKEN_LIFE = 21600  # seconds, the longest
TRIES = 5
# EC2 has the next credentials ready at least five minutes before these end.
EARLY = 600
ROLE = "iam/security-credentials/"
STALE = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")


class Metadata:
    """The instance metadata service, version 2. Its token goes nowhere else."""

    def __init__(self) -> None:
        self.url = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
        self.token = ""

    def find(self, path: str) -> str:
        """Return one value below `meta-data/`, empty where there is none.

        Raises:
            AgentError: the service cannot be asked, in words that say why.
        """
        status, text = 401, ""
        for _ in range(2):
            if not self.token:
                header = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE)}
                status, self.token = self._ask("PUT", "api/token", header)
                if status == 403:
                    raise AgentError(
                        "the metadata service at %s is turned off (HTTP 403)" % self.url
                    )
                if status != 200:
                    words = (self.url, status)
                    raise AgentError("the metadata service at %s gives no token (HTTP %d)" % words)
            header = {"X-aws-ec2-metadata-token": self.token}
            status, text = self._ask("GET", "meta-data/" + path, header)
            if status != 401:
                break
            # The token is of before a reboot or a move.
            self.token = ""
        if status not in (200, 404):
            raise AgentError("the metadata service at %s answers HTTP %d" % (self.url, status))
        return text if status == 200 else ""

    def _ask(self, method: str, path: str, headers: Dict[str, str]) -> Tuple[int, str]:
        # By hand: neither a proxy nor a redirect may ever see the token.
        link = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=2)
        connected = False
        try:
            link.connect()
            connected = True
            link.request(method, "/latest/" + path, headers=headers)
            answer = link.getresponse()
            text = answer.read().decode(errors="replace")
            return answer.status, text if answer.status == 200 else ""
        except (OSError, http.client.HTTPException) as error:
            if connected and method == "PUT" and isinstance(error, socket.timeout):
                # The packets with the token travel only so many hops.
                raise AgentError(
                    "the metadata service at %s lets no token get here: its hop limit keeps"
                    " containers out" % self.url
                ) from error
            words = (self.url, error)
            raise AgentError("the metadata service at %s cannot be reached (%r)" % words) from error
        finally:
            link.close()


class Role:
    """The credentials of the machine's role, kept until shortly before their end."""

    def __init__(self) -> None:
        self.metadata = Metadata()
        self.name = ""
        self.keys: Dict[str, str] = {}
        self.until = 0.0
        self.tries = TRIES

    def read(self, now: float) -> Dict[str, str]:
        """Return the credentials; the role may not be there yet while the machine boots.

        Raises:
            AgentError: there are none.
        """
        for attempt in range(self.tries):
            if now < self.until:
                break
            try:
                self._renew(now)
            except AgentError:
                if self.keys:
                    # Still good, or refused by the bucket in its own words; asked for again soon.
                    self.until = now + 60
                elif attempt + 1 >= self.tries:
                    self.tries = 1
                    raise
                else:
                    time.sleep(0.3 * 2**attempt * (0.5 + random.random()))
        return self.keys

    def _renew(self, now: float) -> None:
        self.name = self.metadata.find(ROLE).split("\n")[0]
        if not self.name:
            raise AgentError("this machine has no role: it was started without instance profile")
        text = self.metadata.find(ROLE + quote(self.name)) or "{}"
        try:
            keys = json.loads(text)
            end = calendar.timegm(time.strptime(keys["Expiration"], "%Y-%m-%dT%H:%M:%SZ"))
            self.keys = {name: keys[name] for name in ("AccessKeyId", "SecretAccessKey", "Token")}
        except (ValueError, KeyError, TypeError) as error:
            # An instance profile whose role was removed, or does not trust EC2.
            words = (self.name, text[:300])
            raise AgentError("the role %s has no credentials: %s" % words) from error
        # A clock that is ahead must not ask with every request.
        self.until, self.tries = max(end - EARLY, now + 60), TRIES


def sign(
    method: str,
    url: str,
    headers: Dict[str, str],
    keys: Dict[str, str],
    place: str,
    now: float,
) -> Dict[str, str]:
    """Return the headers of a request, signed: all those given, and what SigV4 adds.

    `place` are region and service, as `eu-west-1/s3`. S3 needs no signature of the body over TLS:
    an archive would have to be read twice. Other services need its sha256 (hex) among the headers,
    as `X-Amz-Content-Sha256`.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    parts, stamp = urlsplit(url), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {
        "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD",
        **headers,
        "Host": parts.netloc,
        "X-Amz-Date": stamp,
        "X-Amz-Security-Token": keys["Token"],
    }
    lines = sorted((name.lower(), " ".join(signed[name].split())) for name in signed)
    names = ";".join(name for name, _ in lines)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = sorted((_encode(name, ""), _encode(value, "")) for name, _, value in pairs)
    request = [
        method,
        _encode(parts.path, "/") or "/",
        "&".join("%s=%s" % pair for pair in query),
        "".join("%s:%s\n" % line for line in lines),
        names,
        signed["X-Amz-Content-Sha256"],
    ]
    scope = "%s/%s/aws4_request" % (stamp[:8], place)
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in [*scope.split("/"), "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signed["Authorization"] = (
        "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s"
        % (keys["AccessKeyId"], scope, names, key.hex())
    )
    return signed


def _encode(text: str, safe: str) -> str:
    """Return what may be percent-encoded in the one way that signatures are made of."""
    return quote(unquote_to_bytes(text), safe=safe)


class Signer(Asker):
    """Signs what goes to the bucket, and nothing else."""

    def __init__(self, grants: Dict[str, Any], exchange: Callable[..., Answer]) -> None:
        super().__init__(grants, exchange)
        self.place = grants["auth"]["region"] + "/s3"
        self.reports = grants["report"]["url"]
        self.role = Role()
        # Seconds by which the bucket's clock is ahead of this machine's.
        self.ahead = 0.0

    def __call__(self, method: str, url: str, body: Any, headers: Dict[str, str]) -> Answer:
        """Send one request; reports go to where IAM can tell whose they are."""
        if url.startswith(self.reports):
            # While a machine boots its role, and what is known of it, may not be there yet.
            self.role.read(time.time() + self.ahead)
            find = self.role.metadata.find
            profile = parse(find("iam/info"))["InstanceProfileArn"].split(":")
            # With the instance's id behind it, the value of `ec2:SourceInstanceARN`.
            words = (profile[1], find("placement/region"), profile[4])
            own = quote("arn:%s:ec2:%s:%s:instance/" % words)
            end = len(self.reports)
            url = url[:end] + url[end:].replace("/", "/" + own, 1)
        return super().__call__(method, url, body, headers)

    def refuse(self, method: str, url: str, found: Answer) -> AgentError:
        """Return what the role may not do."""
        # S3 names the action where another service is asked: the key's `kms:Decrypt`.
        told = re.findall(r"perform: ([\w:]+)", found[1].decode(errors="replace"))
        action = told[0] if told else "s3:%sObject" % method.title()
        words = (self.role.name, method, url, action)
        return AgentError("forbidden: the role %s may not %s %s (%s)" % words)

    def is_denied(self, found: Answer) -> bool:
        """Tell a denial from every other answer."""
        return _find_code(found) == "AccessDenied"

    def ask(self, method: str, url: str, body: Any, headers: Dict[str, str]) -> Answer:
        """Send a request, again where its credentials or its time were those of before."""
        found: Answer = (0, b"", None)
        for _ in range(3):
            now = time.time() + self.ahead
            keys = self.role.read(now)
            signed = sign(method, url, headers, keys, self.place, now)
            if found[0] and hasattr(body, "seek"):
                body.seek(0)
            found = self.exchange(method, url, body, signed)
            code, date = _find_code(found), parsedate_tz(found[2]["Date"] or "")
            if code in STALE:
                self.role.until = 0
            elif code == "RequestTimeTooSkewed" and date:
                self.ahead = mktime_tz(date) - time.time()
            else:
                break
        return found


def _find_code(found: Answer) -> str:
    """Return the code of S3's error document, empty where there is none."""
    text = found[1][:4000].decode(errors="replace") if found[0] in (400, 403) else ""
    return text.partition("<Code>")[2].partition("</Code>")[0]
