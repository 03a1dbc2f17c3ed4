"""Seats: each instance of a launch learns its rank, the others' addresses and its own secrets.

Instances come up with the same user-data, and need no inbound port: what tells them apart is
written into the bucket when they have been started, under the names that they report under.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envboot.agent import wire
from envboot.errors import StoreError
from envboot.publish.grants import Auth, Terms, find_reading
from envboot.publish.layout import key_input, key_seats, key_secret, secrets_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from envboot.store.protocol import Store
    from envboot_provisioners import Instance

INPUT_PIECE = 16 << 20
"""Bytes of one object of standard input: machines hold one at a time."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One instance's place in its launch.

    `words` are appended to its command; `secret` are environment variables that no other
    instance gets, and that are in the bucket only until it has them. So are `passing`, which the
    instance keeps in memory only, and does not have after a restart.
    """

    rank: int
    words: tuple[str, ...] = ()
    secret: Mapping[str, str] | None = field(default=None, repr=False)
    passing: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def has_secret(self) -> bool:
        """Whether there is an object that only this instance is to read."""
        return bool(self.secret or self.passing)

    def pack_secret(self) -> bytes:
        """Return that object."""
        found = {"environment": dict(self.secret or {})}
        if self.passing:
            found["secrets"] = dict(self.passing)
        return json.dumps(found).encode()


def write_seats(
    store: Store,
    terms: Terms,
    instances: Sequence[Instance],
    *,
    seats: Sequence[Seat] | None = None,
    count: int | None = None,
    peers: Sequence[str | None] | None = None,
    stdin: bytes = b"",
) -> None:
    """Give each instance its seat; they wait for that since `terms.seats` was set.

    Without `seats` ranks go on from `terms.seats` in the order of the instances. `count` is how
    many ranks there are, `peers` their addresses by rank: what these instances tell when None.
    `stdin` is what each one's command reads. By role nothing is signed, and secrets are for the
    client to remove (`clear_secrets`), since roles may remove nothing.

    Raises:
        StoreError: the bucket refuses, or these instances have seats already.
    """
    launch, first = terms.launch, terms.first
    if seats is None:
        seats = [Seat(rank=first + number) for number in range(len(instances))]
    if count is None:
        count = first + len(instances)
    pairs = list(zip(instances, seats, strict=True))
    if peers is None:
        known = {seat.rank: instance.address for instance, seat in pairs}
        peers = [known.get(rank) for rank in range(count)]
    read = find_reading(store, seconds=terms.seconds, auth=terms.auth)

    def sign(key: str) -> dict[str, str]:
        if terms.auth is Auth.ROLE:
            return {"get": read(key)}
        return {"get": read(key), "delete": store.sign_delete(key, terms.seconds)}

    document = {
        "seats": {
            instance.name: {
                "rank": seat.rank,
                "words": list(seat.words),
                **({"address": instance.address} if instance.address else {}),
                **({"secret": sign(_key_secret(launch, instance))} if seat.has_secret else {}),
            }
            for instance, seat in pairs
        },
        "count": count,
        "peers": list(peers),
    }
    if stdin:
        document["stdin"] = _upload_input(store, launch, stdin, read)
    # Secrets first: who has its seat reads on at once.
    secrets = {
        _key_secret(launch, instance): seat.pack_secret()
        for instance, seat in pairs
        if seat.has_secret
    }
    _create_all(store, secrets)
    # `peers` has a place for every rank, so the nulls of this document stay.
    _create_all(store, {key_seats(launch, first): wire.canonical(document)})


def _upload_input(
    store: Store, launch: str, data: bytes, read: Callable[[str], str]
) -> list[dict[str, str]]:
    """Write what commands read on stdin, in pieces that machines can hold in memory."""
    pieces = [data[at : at + INPUT_PIECE] for at in range(0, len(data), INPUT_PIECE)]
    keys = [key_input(launch, number) for number in range(len(pieces))]
    _create_all(store, dict(zip(keys, pieces, strict=True)))
    return [
        {"get": read(key), "sha256": hashlib.sha256(piece).hexdigest()}
        for key, piece in zip(keys, pieces, strict=True)
    ]


def check_removal(store: Store, launch: str) -> None:
    """Make sure that secrets can be removed, before any is written.

    Raises:
        StoreError: they cannot.
    """
    key = key_secret(launch, "none")
    try:
        store.delete(key)
    except StoreError as error:
        raise StoreError(
            f"Cannot pass secrets by bucket `{store.url}`: they could not be removed from it",
            causes=(error.message, *error.causes),
            hint=f"Allow these credentials to delete below `{secrets_prefix('*')}`",
        ) from error


def clear_secrets(store: Store, launch: str, instances: Iterable[Instance]) -> None:
    """Remove what is left of these instances' secrets; none is fine.

    Raises:
        StoreError: the bucket refuses.
    """
    keys = [_key_secret(launch, instance) for instance in instances]
    if keys:
        with ThreadPoolExecutor(min(8, len(keys))) as pool:
            list(pool.map(store.delete, keys))


def _key_secret(launch: str, instance: Instance) -> str:
    return key_secret(launch, instance.identity or instance.name)


def _create_all(store: Store, objects: Mapping[str, bytes]) -> None:
    if not objects:
        return
    with ThreadPoolExecutor(min(8, len(objects))) as pool:
        created = pool.map(store.create, objects, objects.values())
        taken = [key for key, new in zip(objects, created, strict=True) if not new]
    if taken:
        raise StoreError(
            f"Cannot write seats: `{store.url}/{taken[0]}` is there already",
            hint="The instances that are started after as many others have one list of seats",
        )
