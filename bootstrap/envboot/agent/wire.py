"""Names and formats that client and guest share, each defined here once.

Documents travel as JSON. Canonical bytes (sorted keys, no white space, UTF-8, no nulls) are
what digests are taken of; they are frozen by golden tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from typing import Any, Dict

MANIFEST_VERSION = 1
INDEX_VERSION = 1

# Exit codes of the agent, after cloud-init's: 2 is "ready, with recoverable errors".
READY, FAILED, DEGRADED = 0, 1, 2

# Kinds of journal records; the catalog explains each message id (`journalctl MESSAGE_ID=…`).
KINDS = (
    "stage",
    "ready",
    "failed",
    "archive-refused",
    "published",
    "publish-failed",
    "command-ended",
    "notice",
)
MESSAGE_IDS = {kind: "5d2f5a4c0e6b4a5f9a6c1f0b7f3f1a%02x" % (1 + i) for i, kind in enumerate(KINDS)}


def parse(data: Any) -> Dict[str, Any]:
    """Read a JSON document; AgentError when it is not one."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    raise AgentError("not a document: %r" % data[:99])


def line(value: object) -> str:
    """Return a text, or an exception's, on one line, without what terminals obey.

    systemd takes each line that it is sent for an assignment of its own, `READY=1` say.
    """
    return "".join(c if c.isprintable() else " " for c in str(value) or repr(value))


def canonical(document: Any) -> bytes:
    """Return the canonical bytes of a JSON document."""

    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(domain: str, document: Any) -> str:
    """Return `sha256:…` of canonical bytes, separated by domain and version."""
    seed = "envboot-%s-v%d\n" % (domain, MANIFEST_VERSION)
    return "sha256:" + hashlib.sha256(seed.encode() + canonical(document)).hexdigest()


def base_digest(manifest: Dict[str, Any]) -> str:
    """Digest of what is installed: packages, interpreter, prefix, platform, tools."""
    return digest("base", manifest["base"])


def environment_digest(manifest: Dict[str, Any]) -> str:
    """Digest of the whole: the base and, where there is one, the local layer."""
    parts = {name: manifest[name] for name in ("base", "layer") if name in manifest}
    return digest("environment", parts)


def without_query(url: str) -> str:
    """Cut a URL's query and user info: what is signed, or names a password, is a credential."""
    return re.sub(r"\?\S*|(?<=://)[^/@]*@", "", url)


class AgentError(Exception):
    """What stopped the agent, in words for the journal.

    `reason` is set where a transfer failed for good: `missing`, `forbidden`, `expired`,
    `exists` or `unreachable`.
    """

    reason = ""
