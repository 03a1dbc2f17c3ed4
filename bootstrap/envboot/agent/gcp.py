"""Requests with the token of the machine's own service account, from Google's metadata server."""

from __future__ import annotations

import http.client
import json
import os
import random
import time
from typing import Any, Callable, Dict, Tuple

from .role import Answer, Asker
from .wire import AgentError

# https://docs.cloud.google.com/compute/docs/metadata/querying-metadata
ROOT = "/computeMetadata/v1/"
ACCOUNT = "instance/service-accounts/default/"
TRIES = 5
# The server hands out the same token until five minutes before its end, then a new one.
EARLY = 225
WRITES = ("cloud-platform", "devstorage.full_control", "devstorage.read_write")


class Metadata:
    """The metadata server. No proxy is asked, and nothing else sees its tokens."""

    def __init__(self) -> None:
        # As in Google's own libraries: a host, perhaps with its port.
        self.host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"

    def find(self, path: str) -> str:
        """Return one value below `computeMetadata/v1/`, empty where there is none.

        Raises:
            AgentError: the server cannot be asked, in words that say why.
        """
        link = http.client.HTTPConnection(self.host, timeout=3)
        try:
            link.request("GET", ROOT + path, headers={"Metadata-Flavor": "Google"})
            answer = link.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            reason = (self.host, error)
            raise AgentError("the metadata server at %s cannot be reached (%r)" % reason) from error
        finally:
            link.close()
        if answer.headers["Metadata-Flavor"] != "Google":
            raise AgentError("what answers at %s is not Google's metadata server" % self.host)
        if answer.status not in (200, 404):
            words = (self.host, answer.status)
            raise AgentError("the metadata server at %s answers HTTP %d" % words)
        return text if answer.status == 200 else ""


class Account:
    """The token of the machine's service account, kept until shortly before its end."""

    def __init__(self) -> None:
        self.metadata = Metadata()
        self.token = ""
        self.until = 0.0
        self.tries = TRIES

    def read(self, now: float) -> str:
        """Return the token; the server may not answer yet while the machine boots.

        Raises:
            AgentError: there is none.
        """
        for attempt in range(self.tries):
            if now < self.until:
                break
            try:
                self._renew(now)
            except AgentError:
                if self.token:
                    # Still good, or refused by the bucket in its own words; asked for again soon.
                    self.until = now + 60
                elif attempt + 1 >= self.tries:
                    self.tries = 1
                    raise
                else:
                    time.sleep(0.3 * 2**attempt * (0.5 + random.random()))
        return self.token

    def _renew(self, now: float) -> None:
        text = self.metadata.find(ACCOUNT + "token")
        if not text:
            raise AgentError("this machine has no service account: it was started without one")
        try:
            found = json.loads(text)
            self.token, seconds = str(found["access_token"]), int(found["expires_in"])
        except (ValueError, KeyError, TypeError) as error:
            # Not its text, which may have a token in it.
            raise AgentError("the service account's token cannot be read (%r)" % error) from error
        self.until, self.tries = max(now + seconds - EARLY, now + 60), TRIES

    def describe(self) -> Tuple[str, str]:
        """Return the account's name, and the scopes that the machine was started with."""
        try:
            scopes = self.metadata.find(ACCOUNT + "scopes").split()
            names = " ".join(scope.rpartition("/")[2] for scope in scopes)
            return self.metadata.find(ACCOUNT + "email").strip() or "default", names
        except AgentError:
            return "default", WRITES[0]


class Signer(Asker):
    """Sends the token with what goes to the bucket, and with nothing else."""

    def __init__(self, grants: Dict[str, Any], exchange: Callable[..., Answer]) -> None:
        super().__init__(grants, exchange)
        self.account = Account()

    def refuse(self, method: str, url: str, _: Answer) -> AgentError:
        """Return what the account may not do; a machine may have fewer scopes than it has roles."""
        email, scopes = self.account.describe()
        if not any(scope in WRITES for scope in scopes.split()):
            words = (method, url, scopes)
            return AgentError("forbidden: may not %s %s with this machine's scopes: %s" % words)
        return AgentError("forbidden: the service account %s may not %s %s" % (email, method, url))

    def is_denied(self, found: Answer) -> bool:
        """Tell a denial from every other answer."""
        return found[0] == 403 and b"<Code>AccessDenied</Code>" in found[1][:4000]

    def ask(self, method: str, url: str, body: Any, headers: Dict[str, str]) -> Answer:
        """Send a request, again with a new token where the bucket does not take this one."""
        bearer = {"Authorization": "Bearer " + self.account.read(time.monotonic())}
        found = self.exchange(method, url, body, {**headers, **bearer})
        if found[0] == 401:
            self.account.until = 0
            bearer = {"Authorization": "Bearer " + self.account.read(time.monotonic())}
            if hasattr(body, "seek"):
                body.seek(0)
            found = self.exchange(method, url, body, {**headers, **bearer})
        return found
