"""What the machines need, put into the bucket: manifest, layer, tools; and the grants for them."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import tempfile
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from bootstrap import payload
from bootstrap.agent import wire
from bootstrap.errors import StoreError, UsageError
from bootstrap.indexes.packages import PrivatePackage, find_private, pack_private
from bootstrap.seats import key_seats
from bootstrap.store import DAY, SignedPut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bootstrap.manifest import Manifest, Tool
    from bootstrap.store import Store

GRANTS_VERSION = 1
MAX_REPORT = 2 << 20
"""Bytes that one report may have: in JSON the agent's 256 KiB of output may take six times that."""
_REPORT = re.compile(r"reports/[^/]+/[^/]+/\d{13}-\w+\.json")
ORPHANED = timedelta(hours=1)
"""After this long an archive without an index has lost its publisher."""


class Auth(str, Enum):
    """How guests ask the bucket."""

    URLS = "urls"
    ROLE = "role"


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
) -> dict[str, Any]:
    """Put what is missing into the bucket and return the grants for one launch.

    `seconds` is how long the signed URLs are to live, `progress` is given the bytes of the
    layer sent so far; `environment` leads to the logins of conda's channels. `about` is what
    else the bucket is to know of the launch. The archive itself is published by the first
    machine that has to install. With `seats` the machines that are started after so many others
    of the launch wait for `bootstrap.seats.write_seats`.

    With `Auth.ROLE` guests sign with their own role: the grants hold nothing that is secret or
    ends, and are the same whenever environment and launch are.

    Raises:
        UsageError: guests of this store have no roles.
        StoreError: the bucket refused, has no layer where none is given, or a pinned tool is not
            what was pinned.
        LockError: a private conda package cannot be fetched.
    """
    by_role = Auth(auth) is Auth.ROLE
    keys = Keys(manifest, lasting=by_role or seconds > DAY)
    grant = _as_role(store, launch) if by_role else None
    private = find_private(manifest.base.conda, environment)
    layer_data = layer or _find_layer(store, keys)
    document, base = manifest.to_bytes(), wire.canonical({"base": manifest.to_dict()["base"]})
    digests = {"environment": manifest.environment_digest, "base": manifest.base_digest}
    record = wire.canonical({**(about or {}), **digests})
    agent_sha256, agent = payload.agent_zip()
    agent_key = f"tools/{agent_sha256}/agent.zip"
    with ThreadPoolExecutor(8) as pool:
        waits: list[Future[Any]] = [
            pool.submit(store.create, f"{keys.base}/manifest.json", base),
            pool.submit(store.create, keys.environment, document),
            pool.submit(store.create, agent_key, agent),
            pool.submit(_tend, store, keys),
            # Instances report beside this key: a bucket that cannot be written says so now.
            pool.submit(store.create, f"reports/{launch}/launch.json", record),
        ]
        if layer_data is not None and keys.layer:
            waits.append(pool.submit(_put_layer, store, keys.layer, layer_data, progress))
        # Here, where Ctrl-C ends a download that hangs.
        for name, tool in manifest.base.tools.items():
            _mirror(store, name, tool, cache)
        if private and not store.find(keys.packages):
            _publish_packages(store, keys.packages, private, environment, cache)
        for wait in waits:
            wait.result()
    grant = grant or _by_urls(store, launch, seconds)
    return {
        "grants_version": GRANTS_VERSION,
        "launch": launch,
        **grant.common,
        "archive": grant.both(f"{keys.base}/env.tar.zst", large=True),
        "index": grant.both(f"{keys.base}/index.json"),
        "manifest": {"get": grant.get(keys.environment)},
        "agent": {"get": grant.get(agent_key), "sha256": agent_sha256},
        "tools": {
            tool.sha256: grant.get(f"tools/{tool.sha256}/{name}")
            for name, tool in manifest.base.tools.items()
        },
        **({"packages": {"get": grant.get(keys.packages)}} if private else {}),
        **({"layer": {"get": grant.get(keys.layer)}} if keys.layer else {}),
        **({"seat": {"get": grant.get(key_seats(launch, seats))}} if seats is not None else {}),
    }


class Keys:
    """Where an environment's objects are in the bucket.

    A layer is kept for a day, as long as most signed URLs live. With `lasting` the document lives
    longer: then it is beside its environment, which the bucket keeps.
    """

    def __init__(self, manifest: Manifest, *, lasting: bool = False) -> None:
        self.base = f"base/{manifest.base_digest.removeprefix('sha256:')}"
        self.packages = f"packages/{manifest.base_digest.removeprefix('sha256:')}.tar"
        stem = f"environments/{manifest.environment_digest.removeprefix('sha256:')}"
        self.environment = f"{stem}.json"
        layer = manifest.layer
        short = f"layers/{layer.digest.removeprefix('sha256:')}.tar.zst" if layer else None
        self.layer = f"{stem}.tar.zst" if layer and lasting else short
        self.short_layer = short


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grant:
    """How guests get at a key: to read it, and to create it."""

    common: dict[str, Any]
    get: Callable[[str], str]
    put: Callable[[str], SignedPut]

    def both(self, key: str, *, large: bool = False) -> dict[str, Any]:
        signed = self.put(key)
        # Of what may be large the agent is to know how large.
        most = {"max_bytes": signed.max_bytes} if large and signed.max_bytes else {}
        put = {"url": signed.url, "headers": signed.headers}
        return {"get": self.get(key), "put": put, **most}


def _by_urls(store: Store, launch: str, seconds: int) -> _Grant:
    """Return grants that are signed URLs: each is a credential, and ends."""
    expires = store.expiry(seconds).astimezone(timezone.utc)
    report = store.sign_post(f"reports/{launch}/", seconds, MAX_REPORT)
    return _Grant(
        common={
            "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "report": {"url": report.url, "fields": report.fields, "prefix": report.prefix},
        },
        get=lambda key: store.sign_get(key, seconds),
        put=lambda key: store.sign_put(key, seconds),
    )


def _as_role(store: Store, launch: str) -> _Grant:
    """Return grants that name places only: guests sign for themselves."""
    access = store.role_access()
    if access is None:
        raise UsageError(
            f"Bucket `{store.url}` knows no roles",
            hint="Use signed URLs (`--auth urls`), or a bucket whose cloud gives machines roles, "
            "as in `s3://bucket/prefix` or `gs://bucket/prefix`",
        )
    return _Grant(
        common={
            "auth": {
                "kind": access.kind,
                **({"region": access.region} if access.region else {}),
                "url": access.url,
                # A copy is asked for by the bucket's name, which not every URL tells.
                "bucket": urlsplit(store.url).netloc,
            },
            "report": {"url": f"{access.url}reports/{quote(launch)}/", "headers": access.headers},
        },
        get=lambda key: access.url + quote(key),
        put=lambda key: SignedPut(
            url=access.url + quote(key), headers=access.headers, max_bytes=access.max_bytes
        ),
    )


def _find_layer(store: Store, keys: Keys) -> bytes | None:
    """Return what to put at the layer's key, None where it is in the bucket or there is none.

    Raises:
        StoreError: it is nowhere.
    """
    if not keys.layer or not keys.short_layer or store.find(keys.layer):
        return None
    found = store.read(keys.short_layer) if keys.short_layer != keys.layer else None
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


def _publish_packages(
    store: Store,
    key: str,
    private: Sequence[PrivatePackage],
    environment: Mapping[str, str],
    cache: Path,
) -> None:
    """Put the conda packages that guests have no login for into the bucket."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        packed = Path(folder, "packages.tar")
        pack_private(private, environment, cache, packed)
        store.create(key, packed)


def _mirror(store: Store, name: str, tool: Tool, cache: Path) -> None:
    """Put a pinned tool into the bucket, from where it is published."""
    key = f"tools/{tool.sha256}/{name}"
    if store.find(key):
        return
    kept = cache / "tools" / tool.sha256
    if not kept.exists():
        from bootstrap.lock.kept import write_whole

        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, _download(name, tool))
    store.create(key, kept)


def _download(name: str, tool: Tool) -> bytes:
    shown = wire.without_query(tool.url)
    try:
        with urllib.request.urlopen(tool.url, timeout=60) as answer:
            data: bytes = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StoreError(
            f"Failed to fetch {name} {tool.version} for the bucket",
            causes=(f"`{shown}`: {error}",),
            hint=f"Set `[tool.envboot.tools.{name}]` to a place that can be reached",
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != tool.sha256:
        raise StoreError(
            f"Expected {name} {tool.version} with sha256 `{tool.sha256}`, found `{found}`",
            causes=(f"Fetched from `{shown}`",),
        )
    return data


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
