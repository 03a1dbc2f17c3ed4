"""The bucket that is a folder, with its own server for signed URLs."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from envboot.errors import StoreError, UsageError
from envboot.store.keys import check_key, is_old
from envboot.store.local.folder import CHUNK, ObjectFolder
from envboot.store.local.server import MAX_FORM, Server
from envboot.store.local.signing import Policy, UrlSigner
from envboot.store.protocol import DAY, MOST, Expiry, SignedPost, SignedPut, refuse_large

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import BinaryIO

    from typing_extensions import Self

    from envboot.store.protocol import Listing, Stat

CREATE_ONLY = {"If-None-Match": "*"}


class LocalStore:
    """`file:///folder`: objects are files, signed URLs reach a server inside this process.

    The server starts at the first signature, on loopback, and ends with the context. The
    signing key stays in the folder, so that a server on the same port honours older URLs.
    """

    def __init__(self, url: str, *, guest_loopback: str = "127.0.0.1", port: int = 0):
        path = unquote(url.removeprefix("file://"))
        if not url.startswith("file:///") or not path.strip("/") or "\0" in path:
            raise UsageError(f"Expected a folder such as `file:///srv/envboot`, found `{url}`")
        self.url = url.rstrip("/")
        self._folder = ObjectFolder(Path(path))
        self._loopback = guest_loopback
        self._port = port
        self._server: Server | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._server:
                self._server.close()
            self._server = None

    def check(self, *, signs: bool) -> None:
        """Refuse nothing: a folder is made when it is written to, and signs by itself."""
        del signs

    def find(self, key: str) -> Stat | None:
        """Return what is known of one object, None where there is none."""
        with self._explained("read", key):
            return self._folder.find(check_key(key, self.url))

    def read(self, key: str, *, most: int = MOST) -> bytes | None:
        """Return a whole small object, None where there is none; raises as the protocol says."""
        with self._explained("read", key):
            file = self._folder.open(check_key(key, self.url))
            if file is None:
                return None
            with file:
                # Objects are never written to, only replaced.
                if os.fstat(file.fileno()).st_size > most:
                    raise refuse_large(self.url, key, most)
                return file.read()

    def create(
        self, key: str, data: bytes | Path, progress: Callable[[int], None] | None = None
    ) -> bool:
        """Write an object that must not exist yet; False when it is already there."""

        def write(target: BinaryIO) -> None:
            if isinstance(data, bytes):
                target.write(data)
                return
            with data.open("rb") as source:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    if progress:
                        progress(target.tell())

        with self._explained("write", key):
            if self._folder.find(check_key(key, self.url)):
                return False
            created = self._folder.create(key, write)
        if created and progress and isinstance(data, bytes):
            progress(len(data))
        return created

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._explained("remove", key):
            self._folder.delete(check_key(key, self.url))

    def renew(self, key: str, *, older: int = DAY) -> None:
        """Make an object count as new again, where it is older than so many seconds.

        A folder expires nothing by itself; this is for whoever tidies one by the files' age.
        """
        with self._explained("renew", key):
            found = self._folder.find(check_key(key, self.url))
            if found and is_old(found, older):
                self._folder.touch(key)

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yield the objects below a key prefix, in the order of their keys."""
        with self._explained("list", prefix):
            yield from self._folder.walk(prefix)

    def list_folder(self, prefix: str) -> Listing:
        """Return what is right below a prefix that ends with `/`."""
        with self._explained("list", prefix):
            return self._folder.list_folder(prefix)

    def sign_get(self, key: str, seconds: int) -> str:
        """Return a URL that reads one object (ranges too) for that long."""
        server = self.serve()
        expires = math.ceil(time.time()) + seconds
        return self._address(server) + server.signer.sign("GET", check_key(key, self.url), expires)

    def sign_put(self, key: str, seconds: int) -> SignedPut:
        """Return a create-only upload of one object."""
        server = self.serve()
        expires = math.ceil(time.time()) + seconds
        target = server.signer.sign("PUT", check_key(key, self.url), expires, CREATE_ONLY)
        return SignedPut(url=self._address(server) + target, headers=dict(CREATE_ONLY))

    def sign_delete(self, key: str, seconds: int) -> str:
        """Return a URL whose DELETE removes one object, for that long."""
        server = self.serve()
        expires = math.ceil(time.time()) + seconds
        target = server.signer.sign("DELETE", check_key(key, self.url), expires)
        return self._address(server) + target

    def sign_post(self, prefix: str, seconds: int, max_bytes: int) -> SignedPost:
        """Return a form upload for any key below `prefix`, each of at most `max_bytes`."""
        check_key(prefix + "name", self.url)
        if max_bytes > MAX_FORM // 2:
            raise StoreError(f"Cannot sign a form for {max_bytes} bytes; at most {MAX_FORM // 2}")
        server = self.serve()
        expires = math.ceil(time.time()) + seconds
        policy = Policy(prefix=prefix, max_bytes=max_bytes, expires=expires)
        return SignedPost(
            url=self._address(server) + "/",
            fields=server.signer.sign_policy(policy),
            prefix=prefix,
        )

    def expiry(self, seconds: int) -> datetime:
        """Return when a URL signed now for `seconds` really ends (UTC)."""
        return self.limits(seconds).end

    def limits(self, seconds: int) -> Expiry:
        """Return the same, and what limits it: the request, always."""
        now = datetime.now(timezone.utc).replace(microsecond=0)
        return Expiry(end=now + timedelta(seconds=seconds), limited_by="request")

    def role_access(self) -> None:
        """Return None: nobody gives this machine's guests a role."""

    def serve(self) -> Server:
        """Return the running server, started if need be.

        Raises:
            StoreError: the folder cannot be written, or the port is taken.
        """
        with self._lock:
            if self._server is None:
                with self._explained("serve"):
                    signer = UrlSigner(self._folder.secret())
                    self._server = Server(self._folder, signer, self._port)
            return self._server

    def _address(self, server: Server) -> str:
        return f"http://{self._loopback}:{server.server_port}"

    @contextlib.contextmanager
    def _explained(self, action: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"Failed to {action} `{self.url}{'/' + key if key else ''}`",
                causes=(str(error),),
                hint="Check the folder's permissions and free space"
                if action != "serve"
                else "Choose another port, or check the folder's permissions",
            ) from error
