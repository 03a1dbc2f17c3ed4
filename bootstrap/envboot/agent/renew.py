"""Keeps a base that is in use from ending: the bucket removes what was not written for long."""

from __future__ import annotations

import importlib
import time
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Dict

from . import fetch
from .host import WARNING, Host
from .wire import AgentError

DAY = 86400


def renew(host: Host) -> None:
    """Copy the objects of a base that came from the bucket onto themselves, once a day.

    Only with a role, which alone can be allowed to: a signed URL names no copy.
    """
    if "auth" not in host.grants or host.read_json("result").get("source") != "archive":
        return
    get, put = host.grants["index"]["get"], host.grants["index"]["put"]
    folder = get.rpartition("/")[0]
    # The index first: without it the others are as good as gone.
    for name in ("index.json", "env.tar.zst", "manifest.json"):
        try:
            if not _renew(folder + "/" + name, host.grants["auth"], put["headers"]):
                return
        except (AgentError, OSError, LookupError) as error:
            # Not every role may write; others, or the next launch, will do it, or just did.
            text, level = "renew: %s" % error, WARNING
            if getattr(error, "reason", "") in ("forbidden", "exists"):
                level += 2
            host.journal("stage", text, level, stage="renew", error=str(error))
            return
    host.journal("stage", "renew: done", stage="renew")


def _renew(url: str, auth: Dict[str, Any], headers: Dict[str, str]) -> bool:
    """Copy one object onto itself; False where it is not older than a day."""
    # Not HEAD, whose refusals have no body that would say why.
    status, _, answer = fetch.exchange("GET", url, None, {"Range": "bytes=0-0"})
    modified, now = parsedate_tz(answer["Last-Modified"] or ""), parsedate_tz(answer["Date"] or "")
    if status >= 300 or not modified:
        raise AgentError("%s cannot be looked at (HTTP %d)" % (url, status))
    if (mktime_tz(now) if now else time.time()) - mktime_tz(modified) < DAY:
        return False
    cloud = importlib.import_module(".%s_copy" % auth["kind"], __package__)
    data = fetch.send("PUT", url, b"", cloud.make_copy(auth, url, headers, answer))
    if b"<Error>" in data:
        # S3 answers 200 before it copies, and may say otherwise then.
        raise AgentError("%s was not copied: %s" % (url, data[:300].decode(errors="replace")))
    return True
