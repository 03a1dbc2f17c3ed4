"""Published environments: names in the bucket, each with versions that never change."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from envboot.agent import wire
from envboot.config import Trust
from envboot.documents import Node, parse_json, plain
from envboot.errors import LISTED, DocumentError, StoreError, UsageError, name_some
from envboot.manifest import parse_manifest
from envboot.publish import upload
from envboot.publish.publishers import PROOFS, judge_version, vouch
from envboot.publish.trust import TrustPolicy, find_policy
from envboot.scan.schema import Problem
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from envboot.manifest import Manifest
    from envboot.session import Session
    from envboot.store.protocol import Store

FOLDER = "names"
MEMBERS = (
    "name",
    "version",
    "environment",
    "base",
    "platform",
    "python",
    "packages",
    "projects",
    "created",
)
"""What the document of every version has, in the order in which it is shown.

Those of newer ones have their `publisher` and, once read, the `signer` where one is known.
"""
LATEST = "latest"
MOST = 2 << 20
"""Bytes of such a document at most."""
MOST_SKIPPED = 100
"""Versions that are looked at for the newest one that may be used."""
ATTEMPTS = 30
"""How often a version is tried for: of so many who publish at once each gets one."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9]\d{0,7}")
_KEY = re.compile(rf"{FOLDER}/({NAME.pattern})/(\d{{8}})\.json")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A published environment as users write it: `NAME@3`; without a version the newest."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        """Return `NAME@3` or `NAME@latest`."""
        return f"{self.name}@{self.version or LATEST}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The document of a version; `is_new` says that it was made just now."""

    document: dict[str, Any]
    is_new: bool


def check_name(name: str) -> str:
    """Return the name itself.

    Raises:
        UsageError: no environment can be named so.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"Expected a name of lower-case letters, digits, `.`, `_` and `-`, found `{name}`",
            hint="It begins with a letter or a digit and has at most 100 characters, as in "
            "`team-gpu`",
        )
    return name


def parse_reference(text: str) -> Reference:
    """Read `NAME`, `NAME@latest` or `NAME@3`.

    Raises:
        UsageError: it is none of them.
    """
    name, separator, version = text.partition("@")
    check_name(name)
    if not separator or version == LATEST:
        return Reference(name=name)
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"Expected a version of `{name}` as in `{name}@3` or `{name}@{LATEST}`, found `{text}`"
        )
    return Reference(name=name, version=int(version))


def publish_environment(
    name: str,
    manifest: Manifest,
    layer: Path | None,
    store: Store,
    session: Session,
    *,
    now: datetime,
    progress: Callable[[int], None] | None = None,
) -> Published:
    """Put an environment into the bucket to stay, and give it the next version of `name`.

    Where the newest version is the same environment, and may be used, there is none to make. `now`
    is the time that the document tells.

    Raises:
        UsageError: no environment can be named so, or nothing can be signed.
        StoreError: others took every version that was tried for; or see `envboot.publish.upload`.
        LockError: see there.
    """
    check_name(name)
    policy = find_policy(session)
    upload(
        manifest,
        layer,
        store,
        session,
        lasting=True,
        progress=progress,
    )
    for attempt in range(ATTEMPTS):
        # Of several who publish at once one creates the version; the others look again.
        time.sleep(attempt * 0.02)
        newest = max(list_versions(store, name), default=0)
        found = _find_same(store, name, newest, manifest, policy) if newest else None
        if found:
            return Published(document=found, is_new=False)
        document = vouch(describe(name, newest + 1, manifest, now), policy)
        if store.create(_key(name, newest + 1), wire.canonical(document)):
            signer = judge_version(document, policy).signer
            return Published(document=_shown(document, signer), is_new=True)
    raise StoreError(
        f"Failed to publish `{name}`: others took each version in {ATTEMPTS} attempts",
        hint="Publish again",
    )


def _find_same(
    store: Store, name: str, version: int, manifest: Manifest, policy: TrustPolicy
) -> dict[str, Any] | None:
    """Return the document of a version that is this environment and may be used, else None."""
    try:
        found, doubt = _read(store, name, version, policy)
    except MalformedError:
        if policy.trust is Trust.ANY:
            raise
        return None
    return None if doubt or found["environment"] != manifest.environment_digest else found


def describe(name: str, version: int, manifest: Manifest, now: datetime) -> dict[str, Any]:
    """Return the document of a version: which environment it is, and what is in it, in short."""
    base, layer = manifest.base, manifest.layer
    return {
        "name": name,
        "version": version,
        "environment": manifest.environment_digest,
        "base": manifest.base_digest,
        "platform": base.platform,
        "python": base.python.version,
        "packages": len(base.conda) + len(base.wheels),
        "projects": [plain(project) for project in layer.projects] if layer else [],
        "created": f"{now:%Y-%m-%dT%H:%M:%SZ}",
    }


def find_environment(
    store: Store,
    reference: Reference | str,
    session: Session,
    *,
    warn: Callable[[Sequence[Problem]], None] = lambda _: None,
) -> tuple[dict[str, Any], Manifest]:
    """Return the document and the manifest of `NAME`, `NAME@latest` or `NAME@3`.

    Where not every publisher is trusted, `warn` is told which newer versions were passed over.

    Raises:
        UsageError: it is no such reference.
        StoreError: there is none, it may not be used, or the bucket holds something else in its
            place.
    """
    wanted = parse_reference(reference) if isinstance(reference, str) else reference
    versions = list_versions(store, wanted.name)
    if not versions:
        known = sorted(list_names(store))
        near = get_close_matches(wanted.name, known) or known
        raise StoreError(
            f"Environment `{wanted.name}` was not found in `{store.url}`",
            causes=(f"Published are {name_some(near)}" if near else "Nothing is published there",),
            hint=f"Publish it with `envboot env publish {wanted.name}`",
        )
    if wanted.version and wanted.version not in versions:
        raise StoreError(
            f"Environment `{wanted}` was not found in `{store.url}`",
            causes=(f"There is {name_some([f'{wanted.name}@{v}' for v in versions[::-1]])}",),
        )
    policy = find_policy(session)
    document, doubts = _find_newest(
        store, wanted.name, [wanted.version] if wanted.version else versions[::-1], policy
    )
    if document is None:
        raise StoreError(
            f"Cannot use environment `{wanted}` of `{store.url}`",
            causes=tuple(f"`{doubt.subject}`: {doubt.message}" for doubt in doubts[:LISTED]),
            hint=f"`trust` is `{policy.trust.value}`; `envboot env ls {wanted.name}` shows who "
            "published each version",
        )
    warn(doubts)
    return document, fetch_manifest(store, document["environment"])


def _find_newest(
    store: Store, name: str, versions: Sequence[int], policy: TrustPolicy
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the first of the versions that may be used, and why those before it may not."""
    doubts: list[Problem] = []
    for version in versions[:MOST_SKIPPED]:
        try:
            document, doubt = _read(store, name, version, policy)
        except MalformedError as error:
            if policy.trust is Trust.ANY:
                raise
            document, doubt = {}, error.message
        if not doubt:
            return document, doubts
        doubts.append(Problem(subject=f"{name}@{version}", message=f"not used: {doubt}"))
    return None, doubts


def fetch_manifest(store: Store, digest: str) -> Manifest:
    """Read the manifest of an environment that was published, rendered or launched before.

    Raises:
        StoreError: the bucket has none of that digest.
    """
    found = _DIGEST.fullmatch(digest)
    if not found:
        raise UsageError(f"Expected an environment's digest as `sha256:…`, found `{digest}`")
    key = f"environments/{found[1]}.json"
    data = store.read(key)
    if data is None:
        raise StoreError(
            f"Environment `{digest}` was not found in `{store.url}`",
            hint="Put it there with `envboot env publish NAME`, with "
            "`envboot render-userdata --for terraform --store URL`, or give `manifest`",
        )
    manifest = parse_manifest(data)
    if manifest.environment_digest != f"sha256:{found[1]}":
        raise StoreError(
            f"Expected environment `{digest}` at `{key}`, found `{manifest.environment_digest}`"
        )
    return manifest


def list_names(store: Store) -> dict[str, list[int]]:
    """Return every name that is published, and its versions, the newest last."""
    return _list(store, f"{FOLDER}/")


def list_versions(store: Store, name: str) -> list[int]:
    """Return the versions of a name, the newest last."""
    return _list(store, f"{FOLDER}/{name}/").get(name, [])


def _read(store: Store, name: str, version: int, policy: TrustPolicy) -> tuple[dict[str, Any], str]:
    """Return the document of one version, and why it may not be used, where it may not.

    Raises:
        MalformedError: it is gone, or is not what envboot writes.
    """
    key = _key(name, version)
    data = store.read(key, most=MOST)
    causes: tuple[str, ...] = ()
    if data is not None:
        try:
            document = parse_json(data, "published environment")
            _check_version(Node(document, ""), name, version)
            verdict = judge_version(document, policy)
            return _shown(document, verdict.signer), verdict.doubt
        except DocumentError as error:
            causes = (error.message, *error.causes)
    seen = "something else" if data is not None else "nothing"
    raise MalformedError(
        f"Expected a published environment at `{key}` in `{store.url}`, found {seen}", causes=causes
    )


def _shown(document: dict[str, Any], signer: str | None) -> dict[str, Any]:
    """Return what people see of the document of a version."""
    shown = {member: document[member] for member in MEMBERS}
    if "publisher" in document:
        shown["publisher"] = document["publisher"]
    return {**shown, "signer": signer} if signer else shown


def _check_version(node: Node, name: str, version: int) -> None:
    """Raise `DocumentError` unless it is the document of that version."""
    node.take("name", str, re.compile(re.escape(name)))
    node.take("version", int, re.compile(str(version)))
    node.take("environment", str, _DIGEST)
    for member in ("base", "platform", "python", "created"):
        node.take(member, str)
    node.take("packages", int)
    node.find("publisher")
    for member in PROOFS:
        node.find(member)
    if not node.has("projects"):
        raise DocumentError("Expected `projects`, found nothing")
    for project in node.children("projects"):
        project.take("name", str)
        project.take("version", str)
        project.find("commit")


def read_versions(
    store: Store, wanted: Iterable[tuple[str, int]], session: Session
) -> tuple[list[dict[str, Any]], list[MalformedError], list[Problem]]:
    """Return the documents of several versions in the order given, what is wrong with others, and
    which of the documents may not be used.

    Raises:
        StoreError: the bucket cannot be read.
    """
    policy = find_policy(session)

    def read(pair: tuple[str, int]) -> tuple[dict[str, Any], str] | MalformedError:
        try:
            return _read(store, *pair, policy)
        except MalformedError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, wanted))
    whole = [each for each in found if not isinstance(each, MalformedError)]
    doubts = [
        Problem(subject=f"{document['name']}@{document['version']}", message=f"not used: {doubt}")
        for document, doubt in whole
        if doubt
    ]
    wrong = [each for each in found if isinstance(each, MalformedError)]
    return [document for document, _ in whole], wrong, doubts


def _list(store: Store, prefix: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for stat in store.list(prefix):
        if match := _KEY.fullmatch(stat.key):
            found.setdefault(match[1], []).append(int(match[2]))
    return found


def _key(name: str, version: int) -> str:
    # As wide as this, keys are in the order of their versions.
    return f"{FOLDER}/{name}/{version:08d}.json"
