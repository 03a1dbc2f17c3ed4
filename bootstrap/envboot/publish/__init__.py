"""What the machines need, put into the bucket: manifest, layer, tools; and what they report."""

from __future__ import annotations

import http.client
import json
import re
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from envboot.agent import wire
from envboot.errors import StoreError
from envboot.indexes.packages import find_private
from envboot.publish.grants import MAX_REPORT as MAX_REPORT
from envboot.publish.grants import Auth as Auth
from envboot.publish.grants import find_access
from envboot.publish.grants import grant as grant
from envboot.publish.layout import Keys as Keys
from envboot.publish.mirror import ensure_packages, ensure_tool
from envboot.store import DAY
from envboot.userdata import agent_payload as payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from envboot.manifest import Manifest
    from envboot.store import Store

_REPORT = re.compile(r"reports/[^/]+/[^/]+/\d{13}-\w+\.json")
ORPHANED = timedelta(hours=1)
"""After this long an archive without an index has lost its publisher."""


def publish(
    manifest: Manifest,
    layer: Path | None,
    store: Store,
    *,
    launch: str,
    seconds: int,
    cache: Path,
    environment: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
    about: Mapping[str, Any] | None = None,
    auth: Auth | Literal["urls", "role"] = Auth.URLS,
    seats: int | None = None,
    wanted: int | None = None,
) -> dict[str, Any]:
    """Put what is missing into the bucket and return the grants for one launch.

    `about` is what else the bucket is to know of the launch; the rest is as of `upload` and
    `grant`. With `seats` the machines that are started after so many others of the launch wait
    for `envboot.fleet.peers.write_seats`.

    Raises:
        UsageError, StoreError, LockError: see `upload` and `grant`.
    """
    by_role = Auth(auth) is Auth.ROLE
    if by_role:
        find_access(store)  # Before anything is sent to a bucket that knows no roles.
    lasting = by_role or seconds > DAY
    digests = {"environment": manifest.environment_digest, "base": manifest.base_digest}
    # Whoever sends changes later must know how these machines ask.
    follow = {"auth": Auth(auth).value} if wanted else {}
    record = wire.canonical({**(about or {}), **follow, **digests})
    with ThreadPoolExecutor(1) as pool:
        # Instances report beside this key: a bucket that cannot be written says so now.
        recorded = pool.submit(store.create, f"reports/{launch}/launch.json", record)
        uploaded = upload(
            manifest,
            layer,
            store,
            cache=cache,
            environment=environment,
            lasting=lasting,
            progress=progress,
        )
        recorded.result()
    return grant(
        manifest,
        store,
        launch=launch,
        seconds=seconds,
        lasting=lasting,
        private=uploaded.private,
        auth=auth,
        seats=seats,
        wanted=wanted,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploaded:
    """What was uploaded: `private` tells whether it took conda packages that want a login."""

    private: bool


def upload(
    manifest: Manifest,
    layer: Path | None,
    store: Store,
    *,
    cache: Path,
    environment: Mapping[str, str],
    lasting: bool,
    progress: Callable[[int], None] | None = None,
) -> Uploaded:
    """Put what machines need of an environment into the bucket, as far as it is missing.

    With `lasting` the layer goes to where the bucket keeps it; it may be None where it is in the
    bucket. `environment` leads to the logins of conda's channels, `progress` is given the bytes
    of the layer sent so far. The archive itself is published by the first machine that has to
    install.

    Raises:
        StoreError: the bucket refused, has no layer where none is given, or a pinned tool is not
            what was pinned.
        LockError: a private conda package cannot be fetched.
    """
    keys = Keys(manifest, lasting=lasting)
    private = find_private(manifest.base.conda, environment)
    layer_data = layer or _find_layer(store, keys)
    document, base = manifest.to_bytes(), wire.canonical({"base": manifest.to_dict()["base"]})
    agent_sha256, agent = payload.agent_zip()
    with ThreadPoolExecutor(8) as pool:
        waits: list[Future[Any]] = [
            pool.submit(store.create, f"{keys.base}/manifest.json", base),
            pool.submit(store.create, keys.environment, document),
            pool.submit(store.create, f"tools/{agent_sha256}/agent.zip", agent),
            pool.submit(_tend, store, keys),
        ]
        # Whoever locked it had logins that this machine may lack.
        others = pool.submit(store.find, keys.packages) if manifest.base.conda else None
        if layer_data is not None and keys.layer:
            waits.append(pool.submit(_put_layer, store, keys.layer, layer_data, progress))
        # Here, where Ctrl-C ends a download that hangs.
        for name, tool in manifest.base.tools.items():
            ensure_tool(store, name, tool, cache)
        if private:
            ensure_packages(store, keys.packages, private, environment, cache)
        for wait in waits:
            wait.result()
        return Uploaded(private=bool(private or (others and others.result())))


def _find_layer(store: Store, keys: Keys) -> bytes | None:
    """Return what to put at the layer's key, None where it is in the bucket or there is none.

    Raises:
        StoreError: it is nowhere.
    """
    if not keys.layer or not keys.other_layer or store.find(keys.layer):
        return None
    found = store.read(keys.other_layer)
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


def _tend(store: Store, keys: Keys) -> None:
    """Renew the base's objects where they are whole, and clear away what is not.

    An archive whose publisher died before it wrote the index goes, so another can publish.
    """
    index, archive, manifest = (
        f"{keys.base}/{name}" for name in ("index.json", "env.tar.zst", "manifest.json")
    )
    found = store.find(archive)
    if found is None:
        return
    if store.find(index):
        for key in (index, archive, manifest):
            store.renew(key)
    elif datetime.now(timezone.utc) - found.modified >= ORPHANED:
        store.delete(archive)


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


def read_index(store: Store, manifest: Manifest) -> dict[str, Any] | None:
    """Return the index of the published archive, None where there is none that can be read."""
    data = store.read(f"{Keys(manifest).base}/index.json")
    try:
        found = json.loads(data) if data else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"raw", "size"} <= found.keys() else None


def read_reports(store: Store, launch: str, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the reports of a launch: instance, event, the newest document of that event.

    `output` is every document of that event, in the order of their making. `known` is kept
    between calls: what is in it is not read again.
    """
    new = [
        stat.key
        for stat in store.list(f"reports/{launch}/")
        if stat.key not in known and _REPORT.fullmatch(stat.key)
    ]
    if new:
        with ThreadPoolExecutor(min(8, len(new))) as pool:
            for key, data in zip(new, pool.map(store.read, new), strict=True):
                if data is not None:
                    known[key] = json.loads(data)
    reports: dict[str, dict[str, Any]] = {}
    for key in sorted(known):
        _, _, instance, name = key.split("/")
        event = name[14:].removesuffix(".json")
        events = reports.setdefault(instance, {})
        if event == "output":
            events.setdefault(event, []).append(known[key])
        else:
            events[event] = known[key]
    return reports
