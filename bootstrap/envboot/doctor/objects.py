"""What client and guests do with objects, tried on some of their own in any kind of bucket."""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import TYPE_CHECKING

from envboot.agent import fetch
from envboot.agent.wire import AgentError
from envboot.doctor.check import Check
from envboot.errors import StoreError, name_some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from envboot.store.protocol import Store

DATA = b"A probe of `envboot doctor`\n"
SECONDS = 300
_SIGNED = "A signed URL may do what whoever signed it may, while it lives"


def check_objects(
    store: Store,
    *,
    renew: Callable[[str], None] | None = None,
    describe: Callable[[str], Check] | None = None,
    hints: Mapping[str, str] | None = None,
    signs: bool = True,
) -> Iterator[Check]:
    """Try everything that a launch does with objects, below one key of its own.

    `renew` renews whatever the age, `describe` says how an object is encrypted, `hints` are words
    for the bucket's codes, `signs` whether these credentials can sign at all.
    """
    probe = _Probe(store, renew or store.renew, hints or {})
    try:
        yield probe.list()
        yield (written := probe.write())
        if written.status == "failed":
            words = "Read, signed URLs, renew and delete: nothing could be written to try with"
            yield Check(name="the rest", status="skipped", detail=words)
            return
        yield probe.write_again()
        yield probe.read()
        yield probe.read_missing()
        if describe:
            yield describe(probe.key)
        if signs:
            yield probe.signed_get()
            yield probe.unsigned_get()
            yield from probe.signed_put()
            yield probe.signed_post()
        else:
            words = "Nothing signs here: only launches with `--auth role` work"
            yield Check(name="signed URLs", status="skipped", detail=words)
        yield probe.renew()
        yield probe.delete()
    finally:
        probe.clean()


class _Probe:
    def __init__(
        self, store: Store, renew: Callable[[str], None], hints: Mapping[str, str]
    ) -> None:
        self._store = store
        self._renew = renew
        self._hints = hints
        # Where a bucket that `envboot store init` has set up removes what stays behind.
        self._folder = f"reports/doctor-{secrets.token_hex(8)}"
        self.key = f"{self._folder}/written"
        self._made: list[str] = []

    def _try(self, name: str, attempt: Callable[[], str | Check]) -> Check:
        try:
            found = attempt()
        except StoreError as error:
            return fail(name, error)
        except AgentError as error:
            return self._refuse(name, error)
        return found if isinstance(found, Check) else Check(name=name, status="ok", detail=found)

    def _refuse(self, name: str, error: AgentError) -> Check:
        codes = re.findall(r"HTTP \d+ (\w[\w.]*)", str(error))
        hint = next((self._hints[code] for code in codes if code in self._hints), _SIGNED)
        return Check(name=name, status="failed", detail=str(error), hint=hint)

    def list(self) -> Check:
        def attempt() -> str:
            for _ in self._store.list(f"{self._folder}/"):
                break
            return "Allowed"

        return self._try("list", attempt)

    def write(self) -> Check:
        def attempt() -> str:
            self._store.create(self.key, DATA)
            self._made.append(self.key)
            return "Allowed"

        return self._try("write", attempt)

    def write_again(self) -> Check:
        name = "create only"

        def attempt() -> str | Check:
            if not self._store.create(self.key, DATA):
                return "A second write of the same object is refused"
            return Check(
                name=name,
                status="failed",
                detail="A second write replaced the object: this service ignores `If-None-Match`",
                hint="Machines could replace each other's archive: take another service",
            )

        return self._try(name, attempt)

    def read(self) -> Check:
        def attempt() -> str | Check:
            found = self._store.read(self.key)
            if found == DATA:
                return "Allowed"
            size = "nothing" if found is None else f"{len(found)} bytes"
            words = f"Expected the {len(DATA)} bytes that were written, found {size}"
            return Check(name="read", status="failed", detail=words)

        return self._try("read", attempt)

    def read_missing(self) -> Check:
        name = "missing object"
        try:
            self._store.read(f"{self._folder}/missing")
        except StoreError as error:
            if not error.causes[0].startswith(("AccessDenied", "403")):
                return fail(name, error)
            return Check(
                name=name,
                status="warning",
                detail="A missing object is answered as a forbidden one, so that neither this "
                "machine nor guests can tell them apart",
                hint=error.hint,
            )
        return Check(name=name, status="ok", detail="A missing object is told from a forbidden one")

    def signed_get(self) -> Check:
        def attempt() -> str | Check:
            found = fetch.send("GET", self._store.sign_get(self.key, SECONDS), None, {})
            if found == DATA:
                return "A URL reads the object, without credentials"
            words = f"Expected the {len(DATA)} bytes that were written, found {len(found)}"
            return Check(name="signed GET", status="failed", detail=words)

        return self._try("signed GET", attempt)

    def unsigned_get(self) -> Check:
        name = "public read"

        def attempt() -> str | Check:
            url = self._store.sign_get(self.key, SECONDS).partition("?")[0]
            try:
                fetch.send("GET", url, None, {})
            except AgentError:
                return "Refused without a signature"
            return Check(
                name=name,
                status="failed",
                detail="Everybody can read the bucket, without any signature",
                hint=f"Block public access: `envboot store init {self._store.url}`",
            )

        return self._try(name, attempt)

    def signed_put(self) -> Iterator[Check]:
        key = f"{self._folder}/put"

        def attempt() -> str:
            signed = self._store.sign_put(key, SECONDS)
            fetch.send("PUT", signed.url, DATA, signed.headers)
            self._made.append(key)
            return "A URL writes the object, without credentials"

        def again() -> str | Check:
            signed = self._store.sign_put(key, SECONDS)
            try:
                fetch.send("PUT", signed.url, DATA, signed.headers)
            except AgentError as error:
                if error.reason == "exists":
                    return "A second signed PUT is refused"
                raise
            return Check(
                name="signed overwrite",
                status="failed",
                detail="A second signed PUT replaced the object: this service ignores "
                "`If-None-Match`",
                hint="Machines could replace each other's archive: take another service",
            )

        yield (first := self._try("signed PUT", attempt))
        if first.status == "ok":
            yield self._try("signed overwrite", again)

    def signed_post(self) -> Check:
        def attempt() -> str:
            form = self._store.sign_post(f"{self._folder}/", SECONDS, 1000)
            grant = {"url": form.url, "fields": form.fields, "prefix": form.prefix}
            fetch.post(grant, "post", DATA)
            self._made.append(f"{self._folder}/post")
            return "A form writes reports, without credentials"

        return self._try("signed POST", attempt)

    def renew(self) -> Check:
        def attempt() -> str | Check:
            self._renew(self.key)
            found = self._store.read(self.key)
            if found == DATA:
                return "An object can be made to count as new"
            return Check(name="renew", status="failed", detail="The object was changed by it")

        return self._try("renew", attempt)

    def delete(self) -> Check:
        def attempt() -> str:
            self.remove()
            return "Allowed; nothing of this is left"

        found = self._try("delete", attempt)
        if found.status == "ok":
            return found
        left = name_some(self._made)
        return Check(
            name="delete",
            status="warning",
            detail=f"{found.detail}. An archive whose publisher died stays, and so do {left}",
            hint=found.hint,
        )

    def remove(self) -> None:
        for key in list(self._made):
            self._store.delete(key)
            self._made.remove(key)

    def clean(self) -> None:
        # What cannot be removed has been told about.
        with contextlib.suppress(StoreError):
            self.remove()


def fail(name: str, error: StoreError) -> Check:
    """Return the check that an error of the bucket makes."""
    detail = "; ".join(error.causes) or error.message
    return Check(name=name, status="failed", detail=detail, hint=error.hint)
