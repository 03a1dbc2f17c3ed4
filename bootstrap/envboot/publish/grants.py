"""What guests may read and write in the bucket, by signed URLs or as their role."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from envboot.errors import UsageError
from envboot.publish.layout import Keys, key_seats, key_wanted
from envboot.store import RoleAccess, SignedPut
from envboot.userdata import agent_payload as payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.manifest import Manifest
    from envboot.store import Store

GRANTS_VERSION = 1
MAX_REPORT = 2 << 20
"""Bytes that one report may have: in JSON the agent's 256 KiB of output may take six times that."""


class Auth(str, Enum):
    """How guests ask the bucket."""

    URLS = "urls"
    ROLE = "role"


def grant(
    manifest: Manifest,
    store: Store,
    *,
    launch: str,
    seconds: int,
    lasting: bool,
    private: bool,
    auth: Auth | Literal["urls", "role"] = Auth.URLS,
    seats: int | None = None,
    wanted: int | None = None,
) -> dict[str, Any]:
    """Return the grants for one launch of an environment that is in the bucket.

    `seconds` is how long signed URLs live. `lasting` says where the layer was uploaded to, and
    `private` whether conda packages were, for which guests have no login: see `upload`. Nothing
    goes over the network but what signing needs. With `wanted` guests follow the launch's wanted
    documents, from that number on.

    With `Auth.ROLE` guests sign with their own role: the grants hold nothing that is secret or
    ends, and are the same whenever environment and launch are.

    Raises:
        UsageError: guests of this store have no roles.
        StoreError: nothing can be signed.
    """
    keys = Keys(manifest, lasting=lasting)
    by_role = Auth(auth) is Auth.ROLE
    places = _as_role(store, launch) if by_role else _by_urls(store, launch, seconds)
    agent_sha256, _ = payload.agent_zip()
    return {
        "grants_version": GRANTS_VERSION,
        "launch": launch,
        **places.common,
        "archive": places.both(f"{keys.base}/env.tar.zst", large=True),
        "index": places.both(f"{keys.base}/index.json"),
        "manifest": {"get": places.get(keys.environment)},
        "agent": {"get": places.get(f"tools/{agent_sha256}/agent.zip"), "sha256": agent_sha256},
        "tools": {
            tool.sha256: places.get(f"tools/{tool.sha256}/{name}")
            for name, tool in manifest.base.tools.items()
        },
        **({"packages": {"get": places.get(keys.packages)}} if private else {}),
        **({"layer": {"get": places.get(keys.layer)}} if keys.layer else {}),
        **({"seat": {"get": places.get(key_seats(launch, seats))}} if seats is not None else {}),
        **({"wanted": {"get": places.get(key_wanted(launch, wanted))}} if wanted else {}),
    }


def find_reading(
    store: Store, *, seconds: int, auth: Auth | Literal["urls", "role"]
) -> Callable[[str], str]:
    """Return what gives guests the URL to read a key with, signed or for their role.

    Raises:
        UsageError: guests of this store have no roles.
    """
    if Auth(auth) is Auth.URLS:
        return lambda key: store.sign_get(key, seconds)
    access = find_access(store)
    return lambda key: access.url + quote(key)


def find_access(store: Store) -> RoleAccess:
    """Return how guests ask as their role.

    Raises:
        UsageError: guests of this store have no roles.
    """
    access = store.role_access()
    if access is None:
        raise UsageError(
            f"Bucket `{store.url}` knows no roles",
            hint="Use signed URLs (`--auth urls`), or a bucket whose cloud gives machines roles, "
            "as in `s3://bucket/prefix` or `gs://bucket/prefix`",
        )
    return access


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
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


def _by_urls(store: Store, launch: str, seconds: int) -> _Places:
    """Return signed URLs: each is a credential, and ends."""
    expires = store.expiry(seconds).astimezone(timezone.utc)
    report = store.sign_post(f"reports/{launch}/", seconds, MAX_REPORT)
    return _Places(
        common={
            "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "report": {"url": report.url, "fields": report.fields, "prefix": report.prefix},
        },
        get=lambda key: store.sign_get(key, seconds),
        put=lambda key: store.sign_put(key, seconds),
    )


def _as_role(store: Store, launch: str) -> _Places:
    """Return names of places only: guests sign for themselves."""
    access = find_access(store)
    return _Places(
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
