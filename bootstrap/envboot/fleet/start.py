"""The one way to start machines: publish, render, record, start, tell each one who it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from envboot.agent_payload import agent_files
from envboot.fleet.disk import find_disk
from envboot.fleet.history import Record, write_record
from envboot.fleet.launch_key import ensure_key
from envboot.fleet.peers import Seat, write_seats
from envboot.publish import publish, try_url
from envboot.publish.grants import Auth, Terms
from envboot.publish.launch_record import Origin
from envboot.userdata import Job, LaunchPath, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from envboot.fleet.watch import Fleet
    from envboot.manifest import Manifest
    from envboot.scan.schema import Problem
    from envboot.session import Session
    from envboot.store.protocol import Expiry, Store
    from envboot.userdata import Document
    from envboot.userdata.parts import Part
    from envboot_provisioners import Instance, Options


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """How an environment reaches the machines of one call, and what they do with it.

    `chosen` says which environment was meant, as `Selection.kept` does: whoever sends changes to
    the launch later begins with that. With `tries_url` a signed URL is read as machines will read
    it: what is refused here would be refused on every machine, and they cost. `stdin` is what every
    command reads on standard input.
    """

    terms: Terms
    path: LaunchPath
    job: Job = field(default_factory=Job)
    parts: Sequence[Part] = ()
    origin: Origin = field(default_factory=Origin)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    tries_url: bool = False
    stdin: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """An environment in the bucket, and the document that brings it to machines.

    `expiry` is that of its signed URLs, None where there are none.
    """

    delivery: Delivery
    manifest: Manifest
    document: Document
    has_grants: bool
    expiry: Expiry | None = None


def deliver(
    manifest: Manifest,
    layer: Path | None,
    store: Store | None,
    session: Session,
    delivery: Delivery,
    *,
    note: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], None] | None = None,
    warn: Callable[[Sequence[Problem]], None] = lambda _: None,
) -> Delivered:
    """Publish an environment and render the document that brings it; `note` is told each step.

    Without a bucket machines install from the indexes and channels. `progress` is given the bytes
    of the layer sent so far, and `warn` what was found wrong in the bucket.

    Raises:
        UsageError, StoreError, LockError: see `publish`.
        RenderError: the document does not fit its launch path.
    """
    terms, grants, expiry = delivery.terms, None, None
    if store and terms.wanted:
        terms = replace(terms, signer=ensure_key(session, terms.launch))
    if store:
        note("upload")
        grants = publish(
            manifest,
            layer,
            store,
            session,
            terms,
            origin=delivery.origin,
            progress=progress,
            warn=warn,
        )
        expiry = store.limits(terms.seconds) if terms.auth is Auth.URLS else None
        if expiry and delivery.tries_url:
            assert grants.agent
            try_url(grants.agent.get, store.url)
    note("render")
    return Delivered(
        delivery=delivery,
        manifest=manifest,
        document=render(
            manifest,
            launch_path=delivery.path,
            grants=grants,
            job=delivery.job,
            parts=delivery.parts,
            agent=agent_files(session.cache),
        ),
        has_grants=grants is not None,
        expiry=expiry,
    )


def start(
    delivered: Delivered,
    fleet: Fleet,
    session: Session,
    options: Options,
    *,
    seats: Callable[[Sequence[Instance]], Sequence[Seat]] | None = None,
    shared: bool = False,
) -> list[Instance]:
    """Start the instances of one call, which join the fleet, and tell each one who it is.

    The first call of a launch leaves a record in the state directory: whatever becomes of this
    process, others can find what it started. `seats` says who each instance is, where ranks in
    order will not do; `shared` that instances of one host may share a copy of the environment.

    Raises:
        ProvisionError: the provisioner started none of them.
        StoreError: the bucket refuses what tells them who they are. They run then, and are in
            the fleet, for the caller to end.
    """
    from envboot_provisioners import StartRequest

    provisioner, delivery = fleet.provisioner, delivered.delivery
    terms, count, first = delivery.terms, delivery.origin.count, delivery.terms.first
    assert provisioner, "a provisioner starts them"
    assert count, "a call starts at least one"
    request = StartRequest(
        launch=terms.launch,
        first=first,
        count=count,
        user_data=delivered.document.payload,
        encoding=delivered.document.encoding,
        fixed_prefix=delivered.manifest.base.python.source == "conda",
        room=find_disk(fleet.store, delivered.manifest) if fleet.is_remote else 0,
        shared=shared,
        end=delivery.job.life.end if delivery.job.life else None,
        options=options,
    )
    if first == 0:
        record = Record(
            launch=terms.launch,
            provisioner=provisioner.name,
            store=fleet.store.url,
            folder=str(session.folder),
            selection=dict(delivery.chosen),
            place=dict(delivery.origin.place or {}) or None,
            ends=delivery.origin.ends,
        )
        write_record(session.state, record)
    instances = provisioner.start(request)
    fleet.add(instances)
    if terms.seats is not None:
        given = seats(instances) if seats else None
        pairs = zip(instances, given or (), strict=bool(given))
        fleet.secrets |= {each.name: each for each, seat in pairs if seat.has_secret}
        write_seats(fleet.store, terms, instances, seats=given, stdin=delivery.stdin)
    return instances
