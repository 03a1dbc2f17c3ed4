"""Requests as the machine itself, whichever cloud gives it its role."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from .wire import AgentError, without_query

Answer = Tuple[int, bytes, Any]


class Asker:
    """Stands in for `fetch.exchange`: asks as the machine what goes to the bucket.

    A cloud's module says how: `ask` sends a request with whatever proves who asks, `is_denied`
    knows the answer to what this machine may not do, `refuse` says so.
    """

    ask: Callable[[str, str, Any, Dict[str, str]], Answer]
    is_denied: Callable[[Answer], bool]
    refuse: Callable[[str, str, Answer], AgentError]

    def __init__(self, grants: Dict[str, Any], exchange: Callable[..., Answer]) -> None:
        self.url = grants["auth"]["url"]
        self.exchange = exchange
        self.index = grants.get("index", {}).get("get")
        self.signers = grants.get("signers")
        others = [grants[name]["get"] for name in ("manifest", "layer", "agent") if name in grants]
        self.others: List[str] = [*others, *grants.get("tools", {}).values()]

    def __call__(self, method: str, url: str, body: Any, headers: Dict[str, str]) -> Answer:
        """Send one request and return its answer.

        Raises:
            AgentError: there are no credentials, or the role may not do this.
        """
        if not url.startswith(self.url):
            return self.exchange(method, url, body, headers)
        if hasattr(body, "seek"):
            # Of a large upload that is refused half-way nobody reads the answer.
            self.ask("GET", url, None, {"Range": "bytes=0-0"})
            body.seek(0)
        found = self.ask(method, url, body, headers)
        status, data, answer = found
        if status == 412 and "/reports/" in url:
            # Ours, from a try whose answer was lost: nobody else has that name.
            status = 200
        if self.is_denied(found):
            if method != "GET" or not url.endswith("/index.json") or not self._reads_beside(url):
                failure = self.refuse(method, without_query(url), found)
                failure.reason = "forbidden"
                raise failure
            status = 404
        if self.signers and (method, url) == ("GET", self.index) and status == 200:
            # A part of it answers 206: who looks how old it is takes nothing from it.
            from . import keygen

            keygen.check(self.ask, url, data, self.signers)
        return status, data, answer

    def _reads_beside(self, url: str) -> bool:
        """Tell an index that is missing from one that the role may not read.

        Buckets deny a missing key to whoever may not list them. The base's manifest lies
        beside the index and was there before it: who may read that one may read the other.
        Where it is gone too (bases end, environments do not), it is one of the other keys of
        this environment that says whether the role reads this bucket at all.
        """
        beside = url.replace("/index.json", "/manifest.json")
        return any(
            self.ask("GET", key, None, {"Range": "bytes=0-0"})[0] < 300
            for key in [beside, *self.others]
        )
