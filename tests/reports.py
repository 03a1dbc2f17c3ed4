"""What agents have reported, as they wrote it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from envboot.publish.layout import IDENTITY

if TYPE_CHECKING:
    from envboot.store.protocol import Store

_KEY = re.compile(rf"reports/[^/]+/events/{IDENTITY}([^/]+)/\d{{13}}-(\w+)\.json")


def read_documents(store: Store, launch: str) -> dict[str, dict[str, Any]]:
    """Return the documents of a launch: by instance, then by event the newest of that event."""
    documents: dict[str, dict[str, Any]] = {}
    for stat in store.list(f"reports/{launch}/events/"):
        if match := _KEY.fullmatch(stat.key):
            document = json.loads(store.read(stat.key) or b"null")
            documents.setdefault(match[1], {})[match[2]] = document
    return documents
