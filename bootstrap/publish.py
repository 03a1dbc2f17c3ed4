"""What the machines need, put into the bucket: manifest, layer, tools; and the grants for them."""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap import payload
from bootstrap.agent import wire
from bootstrap.errors import StoreError
from bootstrap.indexes.packages import PrivatePackage, find_private, pack_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bootstrap.manifest import Manifest, Tool
    from bootstrap.store import SignedPut, Store

GRANTS_VERSION = 1
MAX_REPORT = 2 << 20
"""Bytes that one report may have: in JSON the agent's 256 KiB of output may take six times that."""
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
) -> dict[str, Any]:
    """Put what is missing into the bucket and return the grants for one launch.

    `seconds` is how long the signed URLs are to live, `progress` is given the bytes of the
    layer sent so far; `environment` leads to the logins of conda's channels. `about` is what
    else the bucket is to know of the launch. The archive itself is published by the first
    machine that has to install.

    Raises:
        StoreError: the bucket refused, has no layer where none is given, or a pinned tool is not
            what was pinned.
        LockError: a private conda package cannot be fetched.
    """
    keys = Keys(manifest)
    private = find_private(manifest.base.conda, environment)
    if keys.layer and layer is None and store.find(keys.layer) is None:
        raise StoreError(
            f"Layer `{keys.layer}` was not found in `{store.url}`",
            hint="Lock again on the machine that has its projects",
        )
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
            pool.submit(_drop_orphan, store, keys),
            # Instances report beside this key: a bucket that cannot be written says so now.
            pool.submit(store.create, f"reports/{launch}/launch.json", record),
        ]
        if layer and keys.layer:
            waits.append(pool.submit(store.create, keys.layer, layer, progress))
        # Here, where Ctrl-C ends a download that hangs.
        for name, tool in manifest.base.tools.items():
            _mirror(store, name, tool, cache)
        if private and not store.find(keys.packages):
            _publish_packages(store, keys.packages, private, environment, cache)
        for wait in waits:
            wait.result()
    expires = store.expiry(seconds)
    report = store.sign_post(f"reports/{launch}/", seconds, MAX_REPORT)
    return {
        "grants_version": GRANTS_VERSION,
        "launch": launch,
        "expires": expires.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "archive": {
            "get": store.sign_get(f"{keys.base}/env.tar.zst", seconds),
            "put": _put(store.sign_put(f"{keys.base}/env.tar.zst", seconds)),
        },
        "index": {
            "get": store.sign_get(f"{keys.base}/index.json", seconds),
            "put": _put(store.sign_put(f"{keys.base}/index.json", seconds)),
        },
        "manifest": {"get": store.sign_get(keys.environment, seconds)},
        "agent": {"get": store.sign_get(agent_key, seconds), "sha256": agent_sha256},
        "tools": {
            tool.sha256: store.sign_get(f"tools/{tool.sha256}/{name}", seconds)
            for name, tool in manifest.base.tools.items()
        },
        "report": {"url": report.url, "fields": report.fields, "prefix": report.prefix},
        **({"packages": {"get": store.sign_get(keys.packages, seconds)}} if private else {}),
        **({"layer": {"get": store.sign_get(keys.layer, seconds)}} if keys.layer else {}),
    }


class Keys:
    """Where an environment's objects are in the bucket."""

    def __init__(self, manifest: Manifest) -> None:
        self.base = f"base/{manifest.base_digest.removeprefix('sha256:')}"
        self.packages = f"packages/{manifest.base_digest.removeprefix('sha256:')}.tar"
        self.environment = (
            f"environments/{manifest.environment_digest.removeprefix('sha256:')}.json"
        )
        layer = manifest.layer
        self.layer = f"layers/{layer.digest.removeprefix('sha256:')}.tar.zst" if layer else None


def _put(signed: SignedPut) -> dict[str, Any]:
    return {"url": signed.url, "headers": signed.headers}


def _drop_orphan(store: Store, keys: Keys) -> None:
    """Remove an archive whose publisher died before it wrote the index, so another can publish."""
    archive = store.find(f"{keys.base}/env.tar.zst")
    if archive is None or datetime.now(timezone.utc) - archive.modified < ORPHANED:
        return
    if store.find(f"{keys.base}/index.json") is None:
        store.delete(archive.key)


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


def read_reports(store: Store, launch: str, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the reports of a launch: instance, event, document. `known` is kept between calls."""
    for stat in store.list(f"reports/{launch}/"):
        if stat.key not in known and stat.key.count("/") == 3:
            data = store.read(stat.key)
            if data is not None:
                known[stat.key] = json.loads(data)
    reports: dict[str, dict[str, Any]] = {}
    for key, document in known.items():
        _, _, instance, event = key.split("/", 3)
        reports.setdefault(instance, {})[event.removesuffix(".json")] = document
    return reports
