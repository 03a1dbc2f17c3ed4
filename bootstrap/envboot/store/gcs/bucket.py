"""A Cloud Storage bucket as envboot wants it: private, and without what nobody needs any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api

from envboot.store.gcs import lifecycle
from envboot.store.gcs.errors import explain
from envboot.store.gcs.store import RETRY
from envboot.store.lifetimes import BASE_DAYS, LAYER_DAYS, list_lives, name_lives
from envboot.store.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envboot.store.gcs.connection import GcsConnection

ENFORCED = "enforced"


@dataclass(frozen=True, kw_only=True, slots=True)
class GcsBucketSpec:
    """What a bucket should be.

    `location` is where a new one is made, None for Google's own choice. `base_days` None keeps
    bases for ever.
    """

    location: str | None = None
    kms_key: str | None = None
    base_days: int | None = BASE_DAYS
    layer_days: int = LAYER_DAYS


def ensure_bucket(
    connection: GcsConnection, wanted: GcsBucketSpec, *, dry_run: bool
) -> Iterator[Step]:
    """Make the bucket, if there is none, and its settings as wanted; yield every step.

    What is right stays untouched, and so do the rules of others and soft delete. A step that
    fails does not stop the rest.

    Raises:
        StoreError: the service cannot be reached, or there are no credentials.
    """
    with connection.explained("set up"):
        steps = _Steps(connection, wanted, dry_run=dry_run)
        yield (first := steps.make())
        if first.outcome == "failed":
            return
        yield steps.prevent_public_access()
        yield steps.drop_acls()
        yield steps.encrypt()
        yield steps.expire()


class _Steps:
    def __init__(self, connection: GcsConnection, wanted: GcsBucketSpec, *, dry_run: bool) -> None:
        self._connection = connection
        self._bucket = connection.bucket
        self._wanted = wanted
        self._dry_run = dry_run
        self._is_there = True

    def _ensure(
        self, name: str, want: str, find: Callable[[], str | None], write: Callable[[], None]
    ) -> Step:
        """Compare and write; `find` returns what is there instead, None where all is right."""
        try:
            found = find() if self._is_there else "nothing"
            if found is None:
                return Step(name=name, outcome="right", detail=want)
            detail = f"{want}; was: {found}"
            if self._dry_run:
                return Step(name=name, outcome="would change", detail=detail)
            write()
        except api.GoogleAPICallError as error:
            return self._fail(name, error)
        return Step(name=name, outcome="changed", detail=detail)

    def _fail(self, name: str, error: api.GoogleAPICallError) -> Step:
        told = explain(error, name, self._connection.place)
        return Step(name=name, outcome="failed", detail=told.causes[0], hint=told.hint)

    def _patch(self) -> None:
        """Write what was changed, unless somebody else has changed the bucket meanwhile."""
        self._bucket.patch(if_metageneration_match=self._bucket.metageneration, retry=RETRY)

    def make(self) -> Step:
        """Make sure that the bucket is there, in its location."""
        name, wanted = self._connection.name, self._wanted
        try:
            self._bucket.reload(retry=RETRY)
        except api.NotFound:
            self._is_there = False
        except api.GoogleAPICallError as error:
            return self._fail("bucket", error)
        if self._is_there:
            place = self._bucket.location
            if wanted.location and wanted.location.upper() != place:
                return Step(
                    name="bucket",
                    outcome="failed",
                    detail=f"Expected `{name}` in `{wanted.location.upper()}`, found it in "
                    f"`{place}`",
                    hint="A bucket cannot move: leave `--region` out, or choose another name",
                )
            return Step(name="bucket", outcome="right", detail=f"`{name}` in `{place}`")
        if not self._connection.project:
            return Step(
                name="bucket",
                outcome="failed",
                detail="No project was found to make it in",
                hint="Set `GOOGLE_CLOUD_PROJECT`, or `project` in `tool.envboot.gcs`",
            )
        where = (wanted.location or "US").upper()
        words = f"`{name}` in `{where}`, project `{self._connection.project}`"
        step = self._ensure("bucket", words, lambda: None, self._create)
        self._is_there = step.outcome == "changed"
        return step

    def _create(self) -> None:
        # A policy of the organisation may refuse any other from its first moment.
        access = self._bucket.iam_configuration
        access.uniform_bucket_level_access_enabled = True
        access.public_access_prevention = ENFORCED
        self._bucket.create(
            client=self._connection.client,
            project=self._connection.project,
            location=self._wanted.location,
            retry=RETRY,
        )
        self._bucket.reload(retry=RETRY)

    def prevent_public_access(self) -> Step:
        """Refuse what would make objects public, whatever ACLs and policies say."""

        def find() -> str | None:
            found = self._bucket.iam_configuration.public_access_prevention
            return None if found == ENFORCED else f"{found or 'inherited'}"

        def write() -> None:
            self._bucket.iam_configuration.public_access_prevention = ENFORCED
            self._patch()

        return self._ensure("public access", "prevented", find, write)

    def drop_acls(self) -> Step:
        """Turn ACLs off: IAM alone says who may do what."""

        def find() -> str | None:
            is_uniform = self._bucket.iam_configuration.uniform_bucket_level_access_enabled
            return None if is_uniform else "ACLs"

        def write() -> None:
            self._bucket.iam_configuration.uniform_bucket_level_access_enabled = True
            self._patch()

        return self._ensure("access", "uniform: IAM alone, no ACLs", find, write)

    def encrypt(self) -> Step:
        """Encrypt by default with a key of the user's; without one what is there stays."""
        key = self._wanted.kms_key

        def find() -> str | None:
            found = self._bucket.default_kms_key_name
            return None if not key or found == key else str(found or "Google's own keys")

        def write() -> None:
            self._bucket.default_kms_key_name = key
            self._patch()

        words = f"`{key}`" if key else "Google's own keys, where nothing else is set"
        if not key and not self._is_there:
            return Step(name="encryption", outcome="would change", detail=words)
        return self._ensure("encryption", words, find, write)

    def expire(self) -> Step:
        """Have the bucket delete what nobody needs any more, below the prefix only."""
        root, wanted = self._connection.root, self._wanted
        lives = list_lives(base_days=wanted.base_days, layer_days=wanted.layer_days)
        rules = lifecycle.make_rules(root, lives)

        def present() -> list[Any]:
            return [dict(rule) for rule in self._bucket.lifecycle_rules]

        def find() -> str | None:
            names = lifecycle.find_differences(present(), rules, root)
            if names and not lifecycle.has_ours(present(), root):
                return "no rules of ours"
            return f"other for {', '.join(f'`{name}`' for name in names)}" if names else None

        def write() -> None:
            self._bucket.lifecycle_rules = lifecycle.merge_rules(present(), rules, root)
            self._patch()

        return self._ensure("lifecycle", name_lives(lives), find, write)
