"""What guests may read and write in the bucket, by signed URLs or as their role."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timezone
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from envboot.documents import Node, plain
from envboot.errors import UsageError
from envboot.publish.layout import Keys, key_permit, key_seats, key_wanted
from envboot.store.protocol import DAY, RoleAccess, SignedPut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envboot.manifest import Manifest
    from envboot.publish.bases import PublishedBase
    from envboot.store.protocol import Store

GRANTS_VERSION = 1
MAX_UPLOAD = 8 << 20
"""Bytes of one object that a machine may put below its launch's reports."""
_VERSION = re.compile(str(GRANTS_VERSION))


class Auth(str, Enum):
    """How guests authenticate to the bucket."""

    URLS = "urls"
    ROLE = "role"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """On which terms the machines of one launch use the bucket.

    `seconds` is how long signed URLs live; a role needs none. Without `boots_later` the machines
    boot within a day, however long they then use the bucket. Machines started after `seats` others
    wait for `envboot.fleet.peers.write_seats`. They follow the launch's desired states from number
    `wanted` on, if `signer`, an OpenSSH public key, has signed them. Without `pins` the document is
    the same before and after the archive is published.
    """

    launch: str
    auth: Auth = Auth.URLS
    seconds: int = DAY
    seats: int | None = None
    wanted: int | None = None
    signer: str | None = None
    pins: bool = True
    boots_later: bool = True

    @property
    def lasting(self) -> bool:
        """Whether the document outlives the day for which the bucket keeps a launch's layer."""
        return self.auth is Auth.ROLE or (self.boots_later and self.seconds > DAY)

    @property
    def first(self) -> int:
        """How many machines of the launch were started before these."""
        return self.seats or 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadGrant:
    """A URL to read one object with; the agent's own comes with its sha256 (hex)."""

    get: str
    sha256: str | None = None

    @classmethod
    def read(cls, node: Node) -> ReadGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(get=node.take("get", str), sha256=node.find("sha256"))
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class PutGrant:
    """A create-only upload: the URL, and the headers that make it so."""

    url: str
    headers: Mapping[str, str]

    @classmethod
    def read(cls, node: Node) -> PutGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(url=node.take("url", str), headers=node.texts("headers"))
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectGrant:
    """How to read an object, of `sha256` (hex) if set, and to create one of at most `max_bytes`."""

    get: str
    sha256: str | None = None
    put: PutGrant | None = None
    max_bytes: int | None = None

    @classmethod
    def read(cls, node: Node) -> ObjectGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(
            get=node.take("get", str),
            sha256=node.find("sha256"),
            put=node.maybe("put", PutGrant.read),
            max_bytes=node.take("max_bytes", int) if node.has("max_bytes") else None,
        )
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class PermitGrant:
    """How to read the permit to publish, and to remove it."""

    get: str
    delete: str

    @classmethod
    def read(cls, node: Node) -> PermitGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(get=node.take("get", str), delete=node.take("delete", str))
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedGrant:
    """How to read what machines are to become, and the public key that must have signed it."""

    get: str
    signer: str

    @classmethod
    def read(cls, node: Node) -> WantedGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(get=node.take("get", str), signer=node.take("signer", str))
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleGrant:
    """Whose credentials sign (`kind`), for what begins with `url`."""

    kind: str
    url: str
    region: str | None = None

    @classmethod
    def read(cls, node: Node) -> RoleGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(
            kind=node.take("kind", str),
            url=node.take("url", str),
            region=node.find("region"),
        )
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportGrant:
    """Where reports go: by a signed form for keys below `prefix`, or by PUT with `headers`."""

    url: str
    fields: Mapping[str, str] | None = None
    prefix: str | None = None
    headers: Mapping[str, str] | None = None

    @classmethod
    def read(cls, node: Node) -> ReportGrant:
        """Read one member; raises `DocumentError`."""
        found = cls(
            url=node.take("url", str),
            fields=node.texts("fields") if node.has("fields") else None,
            prefix=node.find("prefix"),
            headers=node.texts("headers") if node.has("headers") else None,
        )
        node.end()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Grants:
    """The document `grants.json`: what the machines of one launch may do in the bucket.

    What is None is not granted, and not in the document. `tools` has a URL by sha256 (hex).
    `signers`, as in OpenSSH's file of allowed signers, are those of whom machines demand a
    signature of the index.
    `expires` (UTC) is when signed URLs do; with `auth` nothing expires.
    """

    launch: str
    expires: str | None = None
    auth: RoleGrant | None = None
    archive: ObjectGrant | None = None
    index: ObjectGrant | None = None
    signers: str | None = None
    permit: PermitGrant | None = None
    layer: ReadGrant | None = None
    manifest: ReadGrant | None = None
    agent: ReadGrant | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    packages: ReadGrant | None = None
    seat: ReadGrant | None = None
    wanted: WantedGrant | None = None
    report: ReportGrant | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        return {"grants_version": GRANTS_VERSION, **plain(self)}

    @classmethod
    def from_dict(cls, document: Any) -> Grants:
        """Read a document; raises `DocumentError` with the dotted path of what is wrong."""
        node = Node(document, "")
        node.take("grants_version", int, _VERSION)
        found = cls(
            launch=node.take("launch", str),
            expires=node.find("expires"),
            auth=node.maybe("auth", RoleGrant.read),
            archive=node.maybe("archive", ObjectGrant.read),
            index=node.maybe("index", ObjectGrant.read),
            signers=node.find("signers"),
            permit=node.maybe("permit", PermitGrant.read),
            layer=node.maybe("layer", ReadGrant.read),
            manifest=node.maybe("manifest", ReadGrant.read),
            agent=node.maybe("agent", ReadGrant.read),
            tools=node.texts("tools"),
            packages=node.maybe("packages", ReadGrant.read),
            seat=node.maybe("seat", ReadGrant.read),
            wanted=node.maybe("wanted", WantedGrant.read),
            report=node.maybe("report", ReportGrant.read),
        )
        node.end()
        return found

    @property
    def granted(self) -> frozenset[str]:
        """The members that there are, by name."""
        return frozenset(self.to_dict())


def grant(
    manifest: Manifest,
    store: Store,
    terms: Terms,
    *,
    agent_sha256: str,
    private: bool,
    base: PublishedBase,
) -> Grants:
    """Return the grants for one launch of an environment that is in the bucket.

    `private` says that conda packages were uploaded for which guests have no login: see `upload`.
    Nothing goes over the network but what signing needs.

    Where the archive is published, its index is pinned, and nobody may write. Where it is not,
    machines without a role find how to publish in the permit (`publish.permits`). Where not
    everybody's archive counts, machines without a pin are shown no index, or verify it themselves.

    With `Auth.ROLE` guests sign with their own role: the grants hold nothing that is secret or
    expires, and are the same whenever environment, launch and archive are.

    Raises:
        UsageError: guests of this store have no roles.
        StoreError: nothing can be signed.
    """
    keys = Keys(manifest, lasting=terms.lasting)
    by_role = terms.auth is Auth.ROLE
    places = _as_role(store, terms) if by_role else _by_urls(store, terms)
    pin = base.index_sha256 if terms.pins else None
    puts = by_role and not pin
    hidden = base.blocked or (base.guarded and not base.signers)
    return Grants(
        launch=terms.launch,
        expires=places.expires,
        auth=places.auth,
        report=places.report,
        archive=None if base.blocked else places.object(keys.archive, put=puts, large=True),
        index=None if hidden else places.object(keys.index, put=puts, sha256=pin),
        signers=None if pin or base.blocked else base.signers,
        permit=places.permit(key_permit(terms.launch, terms.first)) if base.is_missing else None,
        manifest=places.read(keys.environment),
        agent=ReadGrant(get=places.get(f"tools/{agent_sha256}/agent.zip"), sha256=agent_sha256),
        tools={
            tool.sha256: places.get(f"tools/{tool.sha256}/{name}")
            for name, tool in manifest.base.tools.items()
        },
        packages=places.read(keys.packages if private else None),
        layer=places.read(keys.layer),
        seat=places.read(None if terms.seats is None else key_seats(terms.launch, terms.seats)),
        wanted=_follow(terms, places.get),
    )


def _follow(terms: Terms, get: Callable[[str], str]) -> WantedGrant | None:
    if not terms.wanted or not terms.signer:
        return None
    return WantedGrant(get=get(key_wanted(terms.launch, terms.wanted)), signer=terms.signer)


def find_reading(store: Store, *, seconds: int, auth: Auth) -> Callable[[str], str]:
    """Return what gives guests the URL to read a key with, signed or for their role.

    Raises:
        UsageError: guests of this store have no roles.
    """
    if auth is Auth.URLS:
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

    report: ReportGrant
    get: Callable[[str], str]
    put: Callable[[str], SignedPut]
    delete: Callable[[str], str] | None = None
    expires: str | None = None
    auth: RoleGrant | None = None

    def read(self, key: str | None) -> ReadGrant | None:
        return ReadGrant(get=self.get(key)) if key else None

    def object(
        self, key: str, *, put: bool, sha256: str | None = None, large: bool = False
    ) -> ObjectGrant:
        if not put:
            return ObjectGrant(get=self.get(key), sha256=sha256)
        signed = self.put(key)
        return ObjectGrant(
            get=self.get(key),
            put=PutGrant(url=signed.url, headers=signed.headers),
            max_bytes=signed.max_bytes or None if large else None,
        )

    def permit(self, key: str) -> PermitGrant | None:
        return PermitGrant(get=self.get(key), delete=self.delete(key)) if self.delete else None


def _by_urls(store: Store, terms: Terms) -> _Places:
    """Return signed URLs: each is a credential, and expires."""
    seconds = terms.seconds
    expires = store.expiry(seconds).astimezone(timezone.utc)
    report = store.sign_post(f"reports/{terms.launch}/", seconds, MAX_UPLOAD)
    return _Places(
        expires=expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        report=ReportGrant(url=report.url, fields=report.fields, prefix=report.prefix),
        get=lambda key: store.sign_get(key, seconds),
        put=lambda key: store.sign_put(key, seconds),
        delete=lambda key: store.sign_delete(key, seconds),
    )


def _as_role(store: Store, terms: Terms) -> _Places:
    """Return names of places only: guests sign for themselves."""
    access = find_access(store)
    return _Places(
        auth=RoleGrant(
            kind=access.kind,
            region=access.region or None,
            url=access.url,
        ),
        report=ReportGrant(
            url=f"{access.url}reports/{quote(terms.launch)}/", headers=access.headers
        ),
        get=lambda key: access.url + quote(key),
        put=lambda key: SignedPut(
            url=access.url + quote(key), headers=access.headers, max_bytes=access.max_bytes
        ),
    )
