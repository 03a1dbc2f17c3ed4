"""How an object of Cloud Storage is copied onto itself."""

from __future__ import annotations

from typing import Any, Dict
from urllib.parse import urlsplit


def make_copy(_: Any, url: str, headers: Dict[str, str], answer: Any) -> Dict[str, str]:
    """Return the headers that make a copy of a create-only upload.

    What somebody else writes after `answer` stays.
    https://docs.cloud.google.com/storage/docs/xml-api/put-object-copy
    """
    copy = {
        "x-goog-copy-source": urlsplit(url).path,
        "x-goog-if-generation-match": answer["x-goog-generation"],
    }
    return {**headers, **copy}
