"""HTTP for the guest: kept connections, byte ranges, create-only uploads, honest reasons."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import re
import time
from typing import Any, Dict, Tuple
from urllib.parse import quote, urljoin, urlsplit

from .wire import AgentError, without_query

TRIES = 5
# Bytes of a document, a part of an object, or an answer without a length, at most; others have
# what one PUT takes.
MOST = 32 << 20
# Connections by host and process: one that was open before a fork belongs to the parent.
_connections: Dict[Any, Any] = {}


def read(url: str, start: int = 0, size: int = 0, sha256: str = "") -> bytes:
    """Return an object, or `size` bytes of it from `start`; with `sha256` no other content.

    Raises:
        AgentError: it is `missing`, `forbidden`, `expired` or `unreachable`, or another one.
    """
    last = start + size - 1
    data = send("GET", url, None, {"Range": "bytes=%d-%d" % (start, last)} if size else {})
    if size and len(data) != size:
        raise AgentError("%s: %d bytes, not %d" % (without_query(url), len(data), size))
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise AgentError("%s is not what was pinned" % without_query(url))
    return data


def send(method: str, url: str, body: Any, headers: Dict[str, str]) -> bytes:
    """Send one request, again after a fault of the network or the server; `body` may be a file.

    Raises:
        AgentError: the server refused, or did not answer in five tries. The text shows the URL
            without its query, since a signed URL is a credential.
    """
    reason = "unreachable"
    detail = "it leads on and on"
    for attempt in range(TRIES):
        if attempt:
            # A burst of machines must not come back in step.
            time.sleep(0.3 * 2**attempt * (0.5 + random.random()))
        if hasattr(body, "seek"):
            body.seek(0)
        try:
            status, data, answer = exchange(method, url, body, headers)
        except (OSError, http.client.HTTPException) as error:
            detail = repr(error)
            _connections.clear()
            continue
        if status < 300:
            return data
        if answer["Location"]:
            url = urljoin(url, answer["Location"])
            continue
        text = data[:4000].decode(errors="replace")
        detail = " ".join(["HTTP", str(status), *re.findall("<(?:Code|Message)>([^<]*)", text)])
        if status < 500 and status not in (408, 409, 429):
            # S3 answers 403 for a missing key when the caller may not list: read the body.
            if status in (404, 416) or "NoSuchKey" in text:
                reason = "missing"
            elif status == 401 or "xpired" in text:
                reason = "expired"
            else:
                reason = "exists" if status == 412 else "forbidden"
            break
    failure = AgentError("%s: %s (%s)" % (reason, without_query(url), detail))
    failure.reason = reason
    raise failure


def _send(method: str, url: str, body: Any, headers: Dict[str, str]) -> Tuple[int, bytes, Any]:
    scheme, host, path, query, _ = urlsplit(url)
    key = scheme, host, os.getpid()
    if key not in _connections:
        kind = http.client.HTTPConnection if scheme == "http" else http.client.HTTPSConnection
        _connections[key] = kind(host, timeout=30, blocksize=1 << 20)
    with contextlib.suppress(BrokenPipeError):
        # Who refuses a large upload half-way has said why.
        _connections[key].request(method, path + "?" + query, body, headers)
    answer = _connections[key].getresponse()
    # Whoever can write to the bucket chooses how large its objects are.
    most = MOST if "Range" in headers or path.endswith(".json") else 160 * MOST
    if (answer.length or 0) > most:
        raise AgentError("%s is too large" % without_query(url))
    # Without a length it is cut, and is then not what it should be. Python 3.9 fills with zeros
    # as much memory as it is told to read.
    return answer.status, answer.read(MOST if answer.length is None else None), answer.headers


# One request and its answer: `role` puts in its place what asks as the machine itself.
exchange = _send


def post(grant: Any, key: str, data: bytes) -> None:
    """Upload a small object: with a form, whose file comes last, or as the machine's role."""
    if "fields" not in grant:
        send("PUT", grant["url"] + quote(key), data, grant["headers"])
        return
    edge = "%x" % random.getrandbits(128)
    part = '--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    fields = dict(grant["fields"], key=grant["prefix"] + key)
    body = "".join(part % (edge, name, "") + fields[name] + "\r\n" for name in fields)
    body += part % (edge, "file", '; filename="f"')
    end = "\r\n--%s--\r\n" % edge
    headers = {"Content-Type": "multipart/form-data; boundary=" + edge}
    send("POST", grant["url"], body.encode() + data + end.encode(), headers)
