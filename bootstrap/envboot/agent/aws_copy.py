"""How an object of S3 is copied onto itself."""

from __future__ import annotations

from typing import Any, Dict
from urllib.parse import urlsplit


def make_copy(auth: Dict[str, Any], url: str, headers: Dict[str, str], _: Any) -> Dict[str, str]:
    """Return the headers that make a copy of a create-only upload."""
    parts = urlsplit(url)
    source = parts.path[1:]
    if parts.netloc.startswith(auth["bucket"] + "."):
        source = auth["bucket"] + parts.path
    copy = {"x-amz-copy-source": source, "x-amz-metadata-directive": "REPLACE"}
    return {**{name: headers[name] for name in headers if name != "If-None-Match"}, **copy}
