"""Installs a published base again on this machine, and says whether its archive is the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from envboot import platforms
from envboot.agent.unpack import check_index
from envboot.agent.wire import MANIFEST_VERSION, MESSAGE_IDS, AgentError, canonical
from envboot.agent_payload import agent_files
from envboot.documents import Node, parse_json
from envboot.errors import DocumentError, GuestError, StoreError, UsageError
from envboot.fleet.history import make_name
from envboot.lockfiles.interpreters import check_interpreter
from envboot.manifest import Manifest, parse_manifest
from envboot.publish.archive_comparison import Difference, compare_archive
from envboot.publish.archive_index import ArchiveIndex
from envboot.publish.bases import MAX_INDEX
from envboot.publish.environments import fetch_manifest, find_environment
from envboot.publish.grants import Grants, ObjectGrant, PutGrant, ReadGrant
from envboot.publish.layout import Keys
from envboot.publish.own import remember
from envboot.publish.trust import sign_index
from envboot.userdata import Job, LaunchPath, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from envboot.publish.trust import TrustPolicy
    from envboot.scan.schema import Problem
    from envboot.session import Session
    from envboot.store.protocol import Store
    from envboot_provisioners import Instance, Provisioner

HOUR = 3600
"""Seconds that an installation may take, and for which URLs are signed."""
POLL = 0.1
PLATFORM = platforms.find_target(platform.machine())
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What came of it: the base and the sha256 (hex) of its index, which has no `differences`
    where the archive is what its packages give.

    `published` says that the archive is this machine's own. `signature` is the key of the
    signature that was made; with `signed_before` there was one of the same key.
    """

    base: str
    index: str
    differences: tuple[Difference, ...] = ()
    published: bool = False
    signature: str | None = None
    signed_before: bool = False


def find_target(
    text: str,
    store: Store,
    session: Session,
    *,
    warn: Callable[[Sequence[Problem]], None] = lambda _: None,
) -> Manifest:
    """Return the manifest that a digest names, of an environment or of a base, or a name.

    Raises:
        UsageError: it is neither.
        StoreError: the bucket has nothing of it.
    """
    digest = _DIGEST.fullmatch(text)
    if digest is None:
        return find_environment(store, text, session, warn=warn)[1]
    return _find_base(store, digest[1]) or fetch_manifest(store, text)


def find_all(store: Store) -> list[Manifest]:
    """Return the manifests of all bases that have an archive and are of this platform."""
    keys = (stat.key.split("/") for stat in store.list("base/"))
    found = (_find_base(store, key[1]) for key in keys if key[2:] == ["index.json"])
    return [each for each in found if each and each.base.platform == PLATFORM]


def _find_base(store: Store, digest: str) -> Manifest | None:
    """Return the manifest of a base by its digest (hex), None where there is none."""
    key = f"base/{digest}/manifest.json"
    data = store.read(key)
    if data is None:
        return None
    try:
        document = parse_json(data, "manifest")
        document = {"manifest_version": MANIFEST_VERSION, **Node(document, "").rest}
        manifest = parse_manifest(canonical(document))
    except DocumentError as error:
        raise StoreError(
            f"Expected the manifest of a base at `{store.url}/{key}`", causes=(error.message,)
        ) from error
    if manifest.base_digest != f"sha256:{digest}":
        raise StoreError(
            f"Expected base `sha256:{digest}` at `{store.url}/{key}`, "
            f"found `{manifest.base_digest}`"
        )
    return manifest


def verify(
    manifest: Manifest,
    store: Store,
    policy: TrustPolicy,
    *,
    key: str | None = None,
    publishes: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Verified:
    """Install the base of a manifest here, and compare every file of the archive with it.

    The agent installs, as for a launch on this machine. It uses neither uv's cache, whose files
    earlier commands on this machine may have changed, nor what the bucket has of the base, but for
    conda packages that need a login, which the manifest pins. With `key` a good
    archive is signed; with `publishes` this machine's own goes into the bucket where there is
    none. A good archive counts as this user's own from then on. `progress` is given bytes of the
    archive, compared and in all.

    Raises:
        UsageError: this machine is of another platform, or lacks the interpreter.
        ProvisionError: it cannot show a conda environment at its place.
        GuestError: the installation failed, in the agent's words.
        StoreError: there is no archive, or it cannot be read.
    """
    keys, base = Keys(manifest), manifest.base
    if sys.platform != "linux" or base.platform != PLATFORM:
        raise UsageError(
            f"Cannot install base `{manifest.base_digest}` here: it is for `{base.platform}`",
            hint="Verify it on a Linux machine of that platform",
        )
    check_interpreter(manifest, policy.session, host_python=True)
    there = store.find(keys.index) is not None
    if not there and not publishes:
        raise StoreError(
            f"No archive of base `{manifest.base_digest}` is published in `{store.url}`",
            hint="Add `--publish` to put this machine's own there",
        )
    with _installed(manifest, store, policy.session, publishes=not there) as tree:
        index = _read_index(store, keys, manifest.base_digest)
        try:
            differences = compare_archive(
                store.sign_get(keys.archive, HOUR),
                ArchiveIndex.from_dict(parse_json(index, "index")),
                tree,
                base.python.executable or "",
                progress=progress,
            )
        except StoreError as error:
            raise StoreError(
                error.message,
                causes=error.causes,
                hint="If it was not the network, remove it: "
                f"`envboot store rm {store.url} {keys.index} {keys.archive}`",
            ) from error
    signature, is_new = None, False
    if not differences:
        remember(policy.session, keys, index)
        if key:
            signature, is_new = sign_index(policy, store, keys, index, key)
    return Verified(
        base=manifest.base_digest,
        index=hashlib.sha256(index).hexdigest(),
        differences=tuple(differences),
        published=not there,
        signature=signature,
        signed_before=signature is not None and not is_new,
    )


def _read_index(store: Store, keys: Keys, base: str) -> bytes:
    """Return an index that machines would take.

    Raises:
        StoreError: there is none, or it is none.
    """
    place = f"{store.url}/{keys.index}"
    data = store.read(keys.index, most=MAX_INDEX)
    if data is None:
        raise StoreError(f"Expected an index at `{place}`, found nothing")
    try:
        check_index(ArchiveIndex.from_dict(parse_json(data, "index")).to_dict(), base)
    except (AgentError, DocumentError) as error:
        raise StoreError(
            f"Expected an index at `{place}` that machines can use",
            causes=(str(error),),
            hint=f"Remove it: `envboot store rm {store.url} {keys.index} {keys.archive}`",
        ) from error
    return data


@contextlib.contextmanager
def _installed(
    manifest: Manifest, store: Store, session: Session, *, publishes: bool
) -> Iterator[Path]:
    """Let the agent install the base on this machine; yields the prefix, which goes at the end.

    With `publishes` it packs and uploads the archive too.
    """
    from envboot_provisioners import StartRequest
    from envboot_provisioners.local import LocalProvisioner

    launch, alone = make_name(), Manifest(base=manifest.base)
    document = render(
        alone,
        launch_path=LaunchPath.LOCAL,
        grants=_grant(launch, manifest, store, publishes=publishes),
        job=Job(),
        agent=agent_files(session.cache),
    )
    request = StartRequest(
        launch=launch,
        count=1,
        user_data=document.payload,
        encoding=document.encoding,
        fixed_prefix=manifest.base.python.source == "conda",
    )
    instances: list[Instance] = []
    session.state.mkdir(parents=True, exist_ok=True)
    # On the file system of the instance, which has hard links to it.
    with tempfile.TemporaryDirectory(prefix="verify-", dir=session.state) as cache:
        environment = {**session.environment, "UV_CACHE_DIR": cache}
        provisioner = LocalProvisioner(replace(session, environment=environment))
        try:
            instances += provisioner.start(request)
            yield _wait(provisioner, instances[0], alone, publishes=publishes)
        finally:
            provisioner.terminate(instances or provisioner.instances(launch))


def _grant(launch: str, manifest: Manifest, store: Store, *, publishes: bool) -> Grants:
    """Return what the installation may use of the bucket: nothing that it does not pin itself."""
    keys = Keys(manifest)

    def create(key: str) -> ObjectGrant:
        put = store.sign_put(key, HOUR)
        return ObjectGrant(
            get=store.sign_get(key, HOUR),
            put=PutGrant(url=put.url, headers=put.headers),
            max_bytes=put.max_bytes or None,
        )

    packages = manifest.base.conda and store.find(keys.packages)
    return Grants(
        launch=launch,
        packages=ReadGrant(get=store.sign_get(keys.packages, HOUR)) if packages else None,
        archive=create(keys.archive) if publishes else None,
        index=create(keys.index) if publishes else None,
    )


def _wait(
    provisioner: Provisioner, instance: Instance, manifest: Manifest, *, publishes: bool
) -> Path:
    """Return the prefix of an instance of this machine that has done all it had to do.

    Raises:
        GuestError: it failed, or took more than an hour.
    """
    root, end = instance.root, time.monotonic() + HOUR
    assert root, "it runs on this machine"
    while provisioner.states([instance])[instance.name].alive and time.monotonic() < end:
        time.sleep(POLL)
    state = root / "var/lib/envboot"
    result: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((state / "result.json").read_text("utf-8"))
    errors = [f"{each['stage']}: {each['error']}" for each in result.get("errors", ())]
    if publishes:
        errors += _find_publish_errors(state / "events.jsonl")
    if result.get("outcome") != "ready" or result.get("source") != "install" or errors:
        console = provisioner.console(instance).strip()
        raise GuestError(
            f"Failed to install base `{manifest.base_digest}` on this machine",
            causes=tuple(errors) or tuple(console.splitlines()[-5:]) or ("It took over an hour",),
        )
    return root / f"opt/envboot/envs/{manifest.environment_digest.removeprefix('sha256:')}"


def _find_publish_errors(events: Path) -> list[str]:
    kind = MESSAGE_IDS["publish-failed"]
    records = [json.loads(line) for line in events.read_text("utf-8").splitlines()]
    return [each["MESSAGE"] for each in records if each["MESSAGE_ID"] == kind]
