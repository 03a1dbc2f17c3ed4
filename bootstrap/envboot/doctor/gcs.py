"""A Cloud Storage bucket: who asks, who signs, what time it is there, what the bucket lets."""

from __future__ import annotations

import contextlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import requests
from google.api_core import exceptions as api
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from envboot.doctor.check import Check
from envboot.doctor.objects import check_objects, fail
from envboot.errors import StoreError
from envboot.google_auth import is_person
from envboot.store.gcs.errors import CLOCK, CODES, describe, explain, is_skewed
from envboot.store.gcs.lifecycle import find_expiry
from envboot.store.gcs.store import MAX_SECONDS, RETRY, GcsStore
from envboot.store.lifetimes import SHORT_LIVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from envboot.session import Session

SKEW_SECONDS = 300
"""From here on signatures and tokens are refused soon."""


def check_gcs(url: str, session: Session, now: Callable[[], datetime]) -> Iterator[Check]:
    """Check everything about one bucket; what cannot be tried after a failure is skipped."""
    try:
        store = GcsStore(url, settings=session.settings.gcs, environment=session.environment)
    except StoreError as error:
        yield fail("credentials", error)
        return
    with store:
        probe = _Gcs(store, now)
        yield (clock := probe.clock())
        yield (found := probe.credentials())
        if "failed" in (clock.status, found.status):
            if is_person(store.connection.credentials):
                # That nobody signs for them is known without asking anybody.
                yield probe.signing()
            yield Check(name="bucket", status="skipped", detail="Nothing can be asked")
            return
        yield (bucket := probe.bucket())
        if bucket.status == "failed":
            yield Check(name="objects", status="skipped", detail="No bucket to try them in")
            return
        yield (signing := probe.signing())
        yield from check_objects(
            store,
            renew=store.rewrite_in_place,
            describe=probe.encryption,
            hints=CODES,
            signs=signing.status != "failed",
        )
        yield from probe.settings()


class _Gcs:
    def __init__(self, store: GcsStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._connection = store.connection
        self._now = now

    def clock(self) -> Check:
        """Compare this machine's clock with the service's, before a token can fail by it."""
        name = "clock"
        try:
            # Any answer has the time, also one that refuses.
            answer = requests.head(f"{self._connection.endpoint}/", timeout=10)
        except requests.RequestException as error:
            return fail(name, explain(error, name, self._connection.place))
        date = answer.headers.get("Date")
        if not date:
            return Check(name=name, status="skipped", detail="This service does not tell the time")
        seconds = (self._now() - parsedate_to_datetime(date)).total_seconds()
        ahead = "ahead of" if seconds > 0 else "behind"
        if abs(seconds) < SKEW_SECONDS:
            return Check(name=name, status="ok", detail="As the service's")
        words = f"{abs(seconds) / 60:.0f} minutes {ahead} the service's"
        return Check(name=name, status="failed", detail=words, hint=CLOCK)

    def credentials(self) -> Check:
        """Have a token given, and say whose."""
        name, found = "credentials", self._connection.credentials
        kind = f"`{type(found).__module__}`"
        try:
            with self._connection.explained("ask as this identity"):
                if not found.token and type(found).__name__ != "AnonymousCredentials":
                    found.refresh(Request())
        except StoreError as error:
            if is_skewed(error.__cause__):
                return Check(name=name, status="failed", detail=error.causes[0], hint=CLOCK)
            return fail(name, error)
        who = self._connection.identity
        words = f"`{who}`, by {kind}" if who else f"By {kind}"
        return Check(name=name, status="ok", detail=words)

    def bucket(self) -> Check:
        """Find the bucket, or why this identity is not even heard."""
        name, connection = "bucket", self._connection
        try:
            # Who may not list may read and write all the same.
            with connection.explained("find"), contextlib.suppress(api.Forbidden):
                found = connection.client.list_blobs(
                    connection.bucket, prefix=connection.root, max_results=1, retry=RETRY
                )
                next(iter(found), None)
        except StoreError as error:
            return fail(name, error)
        where = "" if connection.is_google else f" at `{connection.endpoint}`"
        return Check(name=name, status="ok", detail=f"`{connection.name}`{where}")

    def signing(self) -> Check:
        """Sign something, and say how long such URLs can live."""
        name = "signing"
        try:
            with self._connection.explained("sign"):
                signer = self._connection.signer
                signer.sign_bytes(b"envboot doctor")
        except StoreError as error:
            # A launch by role needs no signature.
            found = fail(name, error)
            return Check(name=name, status="failed", detail=found.detail, hint=found.hint)
        limit = self._store.limits(MAX_SECONDS)
        if limit.limited_by == "twelve hours":
            words = f"IAM signs as `{signer.signer_email}`: signed URLs live up to 12 hours"
        else:
            words = f"A key of `{signer.signer_email}` signs: signed URLs live up to 7 days"
        return Check(name=name, status="ok", detail=words)

    def encryption(self, key: str) -> Check:
        """Say how an object that was just written is encrypted."""
        name, wanted = "encryption", self._connection.settings.kms_key
        try:
            with self._connection.explained("read", key):
                blob = self._connection.bucket.blob(self._connection.root + key)
                blob.reload(retry=RETRY)
        except StoreError as error:
            return fail(name, error)
        used = (blob.kms_key_name or "").partition("/cryptoKeyVersions/")[0]
        if wanted and used != wanted:
            return Check(
                name=name,
                status="failed",
                detail=f"Expected `{wanted}`, found `{used or 'nothing'}`",
                hint="This service does not encrypt with KMS: take `kms-key` out",
            )
        return Check(name=name, status="ok", detail=f"`{used}`" if used else "Google's own keys")

    def settings(self) -> Iterator[Check]:
        """Look at the bucket's settings; that one may not look stops no launch."""
        names = ("lifecycle", "public access", "uniform access")
        try:
            self._connection.bucket.reload(retry=RETRY)
        except api.Forbidden:
            wants = describe("storage.buckets.get", self._connection.place)
            for name in names:
                yield Check(name=name, status="skipped", detail=f"Cannot look: it needs {wants}")
            return
        except (api.GoogleAPICallError, GoogleAuthError, requests.RequestException) as error:
            for name in names:
                yield fail(name, explain(error, name, self._connection.place))
            return
        bucket: Any = self._connection.bucket
        access = bucket.iam_configuration
        rules = [dict(rule) for rule in bucket.lifecycle_rules]
        root = self._connection.root
        stay = [f"`{f}/`" for f in SHORT_LIVED if find_expiry(rules, f"{root}{f}/key") is None]
        is_private = access.public_access_prevention == "enforced"
        is_uniform = access.uniform_bucket_level_access_enabled
        yield self._judge(
            "lifecycle",
            f"Nothing removes what is old below {', '.join(stay)}" if stay else None,
            "Layers, locks and reports go by themselves",
        )
        yield self._judge(
            "public access",
            None if is_private else "A policy could make objects public: it is not prevented",
            "Prevented",
        )
        yield self._judge(
            "uniform access", None if is_uniform else "ACLs count, too", "IAM alone, no ACLs"
        )

    def _judge(self, name: str, fault: str | None, words: str) -> Check:
        if fault:
            hint = f"Set it up with `envboot store init {self._connection.url}`"
            return Check(name=name, status="warning", detail=fault, hint=hint)
        return Check(name=name, status="ok", detail=words)
