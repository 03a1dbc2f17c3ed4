"""A file on its way into Cloud Storage: one resumable upload, taken up again after a fault."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from google.api_core import exceptions as api

from envboot.store.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.gcs.connection import GcsConnection

TRIES = 6
TIMEOUT = (10, 120)
"""Seconds to connect, and to wait for an answer after the last byte."""
_AGAIN = frozenset((408, 429, 500, 502, 503, 504))
_INCOMPLETE = 308


def send_file(
    connection: GcsConnection, name: str, path: Path, progress: Callable[[int], None] | None
) -> None:
    """Create an object from a file, in one request as long as nothing goes wrong.

    Google's client reads a piece into memory and waits for its answer before the next one: that
    is slower over a long way, and tells progress as coarsely.
    https://docs.cloud.google.com/storage/docs/performing-resumable-uploads

    Raises:
        GoogleAPICallError: it was refused; `PreconditionFailed` where the object is there.
    """
    with Upload(path, progress) as body:
        body.sending = True
        size = path.stat().st_size
        session = _begin(connection, name, size)
        at = 0
        for attempt in range(TRIES):
            headers = {"Content-Length": str(size - at)}
            if at:
                headers["Content-Range"] = f"bytes {at}-{size - 1}/{size}"
            body.seek(at)
            try:
                answer = _put(connection, session, body if at < size else b"", headers)
                if answer.status_code not in (*_AGAIN, _INCOMPLETE):
                    break
                trouble: Exception = api.from_http_response(answer)
            except requests.ConnectionError as error:
                trouble = error
            time.sleep(min(0.3 * 2**attempt, 5))
            told = _ask_how_far(connection, session, size)
            if told is not None and told.status_code != _INCOMPLETE:
                answer = told
                break
            if told is not None:
                found = re.fullmatch(r"bytes=0-(\d+)", told.headers.get("Range", ""))
                at = int(found[1]) + 1 if found else 0
        else:
            raise trouble
    if answer.status_code >= 300:
        raise api.from_http_response(answer)


def _begin(connection: GcsConnection, name: str, size: int) -> str:
    """Return the URL that the bytes go to; a precondition that fails is told here already."""
    key = connection.settings.kms_key
    query = f"uploadType=resumable&name={quote(name, safe='')}&ifGenerationMatch=0"
    query += f"&kmsKeyName={quote(key, safe='')}" if key else ""
    bucket = quote(connection.name, safe="")
    url = f"{connection.endpoint}/upload/storage/v1/b/{bucket}/o?{query}"
    headers = {"X-Upload-Content-Length": str(size)}
    for attempt in range(TRIES):
        try:
            answer = connection.session.post(url, json={}, headers=headers, timeout=TIMEOUT)
        except requests.ConnectionError:
            if attempt + 1 == TRIES:
                raise
        else:
            if answer.status_code not in _AGAIN or attempt + 1 == TRIES:
                break
        time.sleep(min(0.3 * 2**attempt, 5))
    if answer.status_code >= 300:
        raise api.from_http_response(answer)
    return str(answer.headers["Location"])


def _put(
    connection: GcsConnection, url: str, body: Any, headers: dict[str, str]
) -> requests.Response:
    return connection.session.put(url, data=body, headers=headers, timeout=TIMEOUT)


def _ask_how_far(connection: GcsConnection, url: str, size: int) -> requests.Response | None:
    """Return what became of an upload, None where that too cannot be asked."""
    headers = {"Content-Length": "0", "Content-Range": f"bytes */{size}"}
    try:
        answer = _put(connection, url, b"", headers)
    except requests.ConnectionError:
        return None
    return None if answer.status_code in _AGAIN else answer
