"""Requests to private places: logins that stay with their host, and errors without secrets."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from envboot.errors import LockError
from envboot.redaction import strip_channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RENEW = (
    "Renew the login where you keep it: the settings of pip, uv or conda, netrc, keyring, "
    "or `UV_INDEX_<NAME>_PASSWORD`"
)
UNREACHABLE = (OSError, ValueError, http.client.HTTPException)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Take a login along to the same host only: others, a bucket say, must not see it."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> Any:
        new = super().redirect_request(req, *rest)
        login = req.get_header("Authorization")
        if new and login and urlsplit(new.full_url)[:2] == urlsplit(req.full_url)[:2]:
            new.add_unredirected_header("Authorization", login)
        return new


@dataclass(frozen=True, kw_only=True, slots=True)
class Web:
    """How hosts are reached: a file of certificates, and hosts whose certificate is not looked at.

    Hosts are `name` or `name:port`.
    """

    certificates: str | None = None
    insecure: frozenset[str] = frozenset()

    @contextmanager
    def open(
        self,
        url: str,
        authorization: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[IO[bytes]]:
        """Open a URL; what it raises may show the URL (`UNREACHABLE`, `HTTPError`)."""
        parts = urlsplit(url)
        context = ssl.create_default_context(cafile=self.certificates)
        if {parts.hostname, parts.netloc} & self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        opener = urllib.request.build_opener(
            _Redirects, urllib.request.HTTPSHandler(context=context)
        )
        request = urllib.request.Request(url, headers={"User-Agent": "envboot", **(headers or {})})
        if authorization:
            # Redirects drop this one, unless the handler above puts it back.
            request.add_unredirected_header("Authorization", authorization)
        with opener.open(request, timeout=60) as answer:
            yield answer

    def status(self, url: str, authorization: str | None = None) -> int | None:
        """Return the HTTP status of a URL, None where no server answers."""
        try:
            with self.open(url, authorization):
                return 200
        except HTTPError as error:
            error.close()
            return error.code
        except UNREACHABLE:
            return None

    def fetch(self, url: str, authorization: str | None, file: Path, digest: str) -> Path:
        """Download to `file`, unless it is there; `digest` is `sha256:…` or `md5:…`.

        Raises:
            LockError: it cannot be had, or is not what was promised.
        """
        if file.exists():
            return file
        algorithm, _, wanted = digest.partition(":")
        total = hashlib.new(algorithm, usedforsecurity=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with open(handle, "wb") as stream, self.open(url, authorization) as answer:
                while chunk := answer.read(1 << 20):
                    total.update(chunk)
                    stream.write(chunk)
            if total.hexdigest() != wanted:
                raise LockError(
                    f"Expected `{file.name}` with {algorithm} `{wanted}`, "
                    f"found `{total.hexdigest()}`",
                    causes=(f"Fetched from `{strip_channel(url)}`",),
                    hint="It has changed there, as the archive of a branch does: install it "
                    "again, or lock it again",
                )
            Path(scratch).replace(file)
        except UNREACHABLE as error:
            # Their own texts may show the whole URL.
            code = error.code if isinstance(error, HTTPError) else None
            seen = f"HTTP {code}" if code else type(error).__name__
            raise LockError(
                f"Failed to fetch `{file.name}`",
                causes=(f"`{strip_channel(url)}`: {seen}",),
                hint=RENEW if code in (401, 403) else "Check the network, and try again",
            ) from None
        finally:
            if os.path.lexists(scratch):
                Path(scratch).unlink()
        return file
