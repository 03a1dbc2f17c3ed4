"""What a launch wants of its running machines: a chain of signed documents in the bucket."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envboot.agent import wire
from envboot.documents import Node, parse_json
from envboot.errors import DocumentError, UsageError
from envboot.fleet.launch_key import check_key, sign
from envboot.manifest import parse_manifest
from envboot.publish.grants import Auth, Terms, find_reading
from envboot.publish.launch_record import MOST, read_record
from envboot.publish.layout import Keys, key_wanted
from envboot.store.protocol import DAY, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.fleet.watch import Fleet
    from envboot.publish.launch_record import LaunchRecord
    from envboot.session import Session
    from envboot.store.protocol import Store

_NUMBER = re.compile(r".*/wanted-(\d+)\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a launch wants of its machines: number 0 is what it was made with.

    `end` (seconds since 1970) is when they end by themselves, where that was moved. With
    `interrupt` the command is told to end as by Ctrl-C, once.
    """

    number: int
    environment: str
    restart: bool = False
    end: int | None = None
    interrupt: bool = False


def find_newest(store: Store, launch: str, session: Session) -> Wanted:
    """Return what a launch wants now; machines that are started later follow from the next number.

    Raises:
        UsageError: the bucket does not know the launch, or nothing can be signed for it here.
        StoreError: the bucket cannot be read; `MalformedError` where somebody else has written
            what is wanted: machines never get past that.
    """
    found = (_NUMBER.fullmatch(stat.key) for stat in store.list(f"launches/{launch}/wanted-"))
    number = max((int(match[1]) for match in found if match), default=0)
    data = store.read(key_wanted(launch, number), most=MOST) if number else None
    if data is not None:
        return _read_wanted(data, launch, number, session)
    return Wanted(number=number, environment=read_launch(store, launch).environment)


def _read_wanted(data: bytes, launch: str, number: int, session: Session) -> Wanted:
    key = key_wanted(launch, number)
    try:
        document = parse_json(data, "wanted document")
        node = Node(document, "")
        found = Wanted(
            number=number,
            environment=node.take("digest", str),
            restart=node.take("restart", bool),
            end=node.take("end", int) if node.has("end") else None,
        )
        signature = node.take("signature", str)
    except DocumentError as error:
        raise MalformedError(f"Cannot read `{key}`", causes=(error.message,)) from error
    del document["signature"]
    # A message has one signature with this key.
    if signature != sign(session, launch, wire.canonical(document)):
        raise MalformedError(
            f"Cannot sync `{launch}`: `{key}` was not signed with its key",
            causes=("Somebody else may write to the bucket; machines refuse what it says",),
            hint="Launch again, and see who may write there",
        )
    return found


def resend(fleet: Fleet, session: Session, change: Callable[[Wanted], Wanted]) -> Wanted:
    """Want of machines what is wanted of them already, and what `change` adds to it.

    Raises:
        UsageError: the launch takes no changes, or nothing can be signed for it here.
        StoreError: the bucket refused, or has lost what the launch runs.
    """
    store, launch = fleet.store, fleet.launch
    record = fleet.about or read_launch(store, launch)
    check_follows(launch, record)
    check_key(session, launch)
    newest = find_newest(store, launch, session)
    data = store.read(f"environments/{newest.environment.removeprefix('sha256:')}.json")
    if data is None:
        raise MalformedError(f"Environment `{newest.environment}` is not in the bucket any more")
    manifest = parse_manifest(data)
    terms = Terms(launch=launch, auth=Auth(record.auth), seconds=DAY)
    keys = Keys(manifest, lasting=terms.lasting)
    read = find_reading(store, seconds=terms.seconds, auth=terms.auth)
    return send(
        fleet,
        session,
        newest,
        lambda after: change(replace(after, restart=False)),
        lambda new: compose(store, new, launch, keys, read),
    )


def send(
    fleet: Fleet,
    session: Session,
    newest: Wanted,
    change: Callable[[Wanted], Wanted],
    render: Callable[[Wanted], dict[str, Any]],
) -> Wanted:
    """Put what is wanted into the bucket, after all that others have put there; returns it."""
    store, launch = fleet.store, fleet.launch
    while True:
        new = replace(change(newest), number=newest.number + 1)
        document = render(new)
        document["signature"] = sign(session, launch, wire.canonical(document))
        if store.create(key_wanted(launch, new.number), wire.canonical(document)):
            return new
        # Another sync was faster: ours comes after it.
        found = find_newest(store, launch, session)
        newest = replace(newest, number=max(new.number, found.number), end=found.end)


def read_launch(store: Store, launch: str) -> LaunchRecord:
    """Return what the bucket has on a launch.

    Raises:
        UsageError: it knows no such launch.
        StoreError: it cannot be read.
    """
    record = read_record(store, launch)
    if record is None:
        raise UsageError(
            f"Launch `{launch}` is not in `{store.url}` any more",
            hint="A bucket keeps what it knows of a launch for a day; launch anew",
        )
    return record


def check_follows(launch: str, record: LaunchRecord) -> None:
    """Refuse a launch whose machines look for nothing."""
    if record.auth not in {auth.value for auth in Auth}:
        raise UsageError(
            f"Cannot sync `{launch}`: its machines do not look for changes",
            hint="Those of `envboot launch` do, if `ssh-keygen` is installed where you launch: "
            "launch again",
        )


def compose(
    store: Store,
    wanted: Wanted,
    launch: str,
    keys: Keys,
    read: Callable[[str], str],
) -> dict[str, Any]:
    """Return the document that says what is wanted, not signed yet."""

    def grant(key: str) -> dict[str, str]:
        url = read(key)
        if store.url.startswith("file:"):
            # The server that machines know is the launching process's, not ours.
            parts = urlsplit(url)
            url = f"{parts.path}?{parts.query}"
        return {"get": url}

    return {
        "number": wanted.number,
        "digest": wanted.environment,
        "manifest": grant(keys.environment),
        **({"layer": grant(keys.layer)} if keys.layer else {}),
        "restart": wanted.restart,
        **({} if wanted.end is None else {"end": wanted.end}),
        **({"interrupt": True} if wanted.interrupt else {}),
        "next": grant(key_wanted(launch, wanted.number + 1)),
    }
