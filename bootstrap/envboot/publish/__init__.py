"""What the machines need, put into the bucket: manifest, layer, tools; and the grants for them."""

from __future__ import annotations

import http.client
import re
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from envboot.agent import wire
from envboot.agent_payload import agent_zip
from envboot.config import Trust
from envboot.errors import StoreError
from envboot.indexes.packages import find_private
from envboot.publish.bases import PublishedBase, tend_base
from envboot.publish.grants import Auth, Grants, Terms, find_access, grant
from envboot.publish.launch_record import LaunchRecord, Origin, key_record
from envboot.publish.layout import Keys, key_permit
from envboot.publish.mirror import ensure_packages, ensure_tool
from envboot.publish.permits import make_permit
from envboot.publish.trust import find_policy
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from envboot.manifest import Manifest
    from envboot.publish.trust import TrustPolicy
    from envboot.session import Session
    from envboot.store.protocol import Store

LAYER = 5 << 30
"""Bytes of a layer at most: what one upload carries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """What is in the bucket now.

    `private` tells whether it took conda packages that want a login; `base` what there is of an
    archive.
    """

    private: bool
    base: PublishedBase


def publish(
    manifest: Manifest,
    layer: Path | None,
    store: Store,
    session: Session,
    terms: Terms,
    *,
    origin: Origin | None = None,
    progress: Callable[[int], None] | None = None,
    warn: Callable[[Sequence[Problem]], None] = lambda _: None,
) -> Grants:
    """Put what is missing into the bucket and return the grants for one launch.

    `origin` is what else the bucket shall have on the launch; `warn` is told what was found wrong
    with the published archive; the rest is as of `upload`.

    Raises:
        UsageError, StoreError, LockError: see `upload` and `grant`.
    """
    if terms.auth is Auth.ROLE:
        find_access(store)  # Before anything is sent to a bucket that knows no roles.
    origin = origin or Origin()
    record = LaunchRecord(
        environment=manifest.environment_digest,
        base=manifest.base_digest,
        provisioner=origin.provisioner,
        count=origin.count,
        command=origin.command,
        place=origin.place,
        ends=origin.ends,
        keep=origin.keep or None,
        output=origin.output,
        # Whoever sends changes later must know how these machines authenticate.
        auth=terms.auth.value if terms.wanted and terms.signer else None,
    )
    data = wire.canonical(record.to_dict())
    with ThreadPoolExecutor(1) as pool:
        # Instances report beside this key: a bucket that cannot be written says so now.
        recorded = pool.submit(store.create, key_record(terms.launch), data)
        uploaded = upload(manifest, layer, store, session, lasting=terms.lasting, progress=progress)
        recorded.result()
    policy = find_policy(session)
    base = _guard(uploaded.base, policy, terms)
    if base.problem:
        warn([base.problem])
    if terms.auth is Auth.URLS and base.is_missing:
        owner = session if policy.trust is Trust.OWN else None
        base = _permit(manifest, store, terms, base, warn, owner)
    return grant(
        manifest,
        store,
        terms,
        agent_sha256=agent_zip(session.cache)[0],
        private=uploaded.private,
        base=base,
    )


def _guard(base: PublishedBase, policy: TrustPolicy, terms: Terms) -> PublishedBase:
    """Keep machines from what others may publish before they look; see `PublishedBase`."""
    pinned = base.index_sha256 and terms.pins
    if policy.trust is Trust.ANY or pinned:
        return base
    if terms.auth is Auth.URLS:
        # They install, and publish: whoever launches later pins that, if it is to be trusted.
        return replace(base, guarded=True)
    if policy.trust is Trust.SIGNED and (base.is_missing or not terms.pins):
        # The same document before and after somebody has signed: machines look themselves.
        return replace(base, blocked=False, guarded=True, signers=policy.signers_text)
    if base.blocked:
        return base
    text = (
        "machines install, and do not publish: nothing in a document by role can say which "
        'archive will be your own (`trust = "own"`)'
    )
    problem = base.problem or Problem(subject=f"launch {terms.launch}", message=text)
    return replace(base, blocked=True, guarded=True, problem=problem)


def _permit(
    manifest: Manifest,
    store: Store,
    terms: Terms,
    base: PublishedBase,
    warn: Callable[[Sequence[Problem]], None],
    owner: Session | None,
) -> PublishedBase:
    """Let the machines publish the base, if they can remove that right before a command starts."""
    key = key_permit(terms.launch, terms.first)
    try:
        # Machines can remove what these credentials can. An earlier document for the same launch
        # may have left one whose URLs end sooner.
        store.delete(key)
    except StoreError as error:
        text = f"machines install and do not publish, since permits cannot be removed: {error}"
        warn([Problem(subject=f"{store.url}/{key}", message=text)])
        return replace(base, blocked=True)
    store.create(key, wire.canonical(make_permit(manifest, store, terms, owner=owner).to_dict()))
    return base


def upload(
    manifest: Manifest,
    layer: Path | None,
    store: Store,
    session: Session,
    *,
    lasting: bool,
    progress: Callable[[int], None] | None = None,
) -> Uploaded:
    """Put what machines need of an environment into the bucket, as far as it is missing.

    With `lasting` the layer goes to where the bucket keeps it; it may be None where it is in the
    bucket. `progress` is given the bytes of the layer sent so far. The archive itself is
    published by the first machine that has to install.

    Raises:
        StoreError: the bucket refused, has no layer where none is given, or a pinned tool is not
            what was pinned.
        LockError: a private conda package cannot be fetched.
    """
    keys, policy = Keys(manifest, lasting=lasting), find_policy(session)
    private = find_private(manifest.base.conda, session.environment)
    layer_data = layer or _find_layer(store, keys)
    document, base = manifest.to_bytes(), wire.canonical({"base": manifest.to_dict()["base"]})
    agent_sha256, agent = agent_zip(session.cache)
    with ThreadPoolExecutor(8) as pool:
        waits: list[Future[Any]] = [
            pool.submit(store.create, keys.manifest, base),
            pool.submit(store.create, keys.environment, document),
            pool.submit(store.create, f"tools/{agent_sha256}/agent.zip", agent),
        ]
        tended = pool.submit(tend_base, store, keys, manifest.base_digest, policy)
        # Whoever locked it had logins that this machine may lack.
        others = pool.submit(store.find, keys.packages) if manifest.base.conda else None
        if layer_data is not None and keys.layer:
            waits.append(pool.submit(_put_layer, store, keys.layer, layer_data, progress))
        # Here, where Ctrl-C ends a download that hangs.
        for name, tool in manifest.base.tools.items():
            ensure_tool(store, name, tool, session.cache)
        if private:
            ensure_packages(store, keys.packages, private, session)
        for wait in waits:
            wait.result()
        return Uploaded(private=bool(private or (others and others.result())), base=tended.result())


def _find_layer(store: Store, keys: Keys) -> bytes | None:
    """Return what to put at the layer's key, None where it is in the bucket or there is none.

    Raises:
        StoreError: it is nowhere.
    """
    if not keys.layer or not keys.other_layer or store.find(keys.layer):
        return None
    found = store.read(keys.other_layer, most=LAYER)
    if found is None:
        raise StoreError(
            f"Layer `{keys.layer}` was not found in `{store.url}`",
            hint="Lock again on the machine that has its projects",
        )
    return found


def _put_layer(
    store: Store, key: str, data: bytes | Path, progress: Callable[[int], None] | None
) -> None:
    if not store.create(key, data, progress):
        # One that is there already must live as long as this launch, too.
        store.renew(key, older=0)


def try_url(url: str, store: str) -> None:
    """Read with a signed URL, as machines do: without credentials.

    Raises:
        StoreError: the bucket refuses it.
    """
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read(1)
    except (OSError, http.client.HTTPException) as error:
        body = error.read(4000).decode(errors="replace") if hasattr(error, "read") else ""
        words = re.findall("<(?:Code|Message)>([^<]*)", body)
        raise StoreError(
            f"Cannot let machines use `{store}` by signed URLs: it refuses one",
            causes=(": ".join([str(error), *words]),),
            hint="`envboot doctor` tries what machines do; with `--auth role` they need no URLs",
        ) from error
