"""What a bucket has on a launch: that it was made and for what, and that it is over."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from envboot.documents import Node, parse_json, plain
from envboot.errors import DocumentError, StoreError
from envboot.publish.layout import secrets_prefix
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envboot.store.protocol import Store

_T = TypeVar("_T")
MOST = 2 << 20
"""Bytes of such a document at most: the command line alone cannot be longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who starts the machines of a launch, how many of them, and with which command.

    The command is as its user wrote it: what machines run may have other paths. With `keep` they
    stay when it has ended. `output` says whether what it makes goes to the bucket. `place` is where
    the machines will be, as `Provisioner.place` says, and `ends` when they end by themselves (UTC),
    or `never`. All is None where a document is rendered for others to start machines with.
    """

    provisioner: str | None = None
    count: int | None = None
    command: tuple[str, ...] | None = None
    place: Mapping[str, str] | None = None
    ends: str | None = None
    keep: bool | None = None
    output: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRecord:
    """`reports/<launch>/launch.json`: written before anything starts.

    `provisioner`, `count`, `command`, `keep`, `output`, `place` and `ends` are as of `Origin`.
    `auth` says how machines that follow changes use the bucket; others follow none.
    """

    environment: str
    base: str
    provisioner: str | None = None
    count: int | None = None
    command: tuple[str, ...] | None = None
    output: bool | None = None
    auth: str | None = None
    place: Mapping[str, str] | None = None
    ends: str | None = None
    keep: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        found: dict[str, Any] = plain(self)
        return found

    @classmethod
    def from_dict(cls, document: Any) -> LaunchRecord:
        """Read a document; raises `DocumentError` with the dotted path of what is wrong."""
        node = Node(document, "")
        # What else there is a newer envboot has written.
        return cls(
            environment=node.take("environment", str),
            base=node.take("base", str),
            provisioner=node.find("provisioner"),
            count=node.take("count", int) if node.has("count") else None,
            command=node.strings("command") if node.has("command") else None,
            output=node.take("output", bool) if node.has("output") else None,
            auth=node.find("auth"),
            place=node.texts("place") if node.has("place") else None,
            ends=node.find("ends"),
            keep=node.take("keep", bool) if node.has("keep") else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchEnd:
    """`reports/<launch>/ended.json`: why a launch was over, and when (UTC)."""

    why: str
    time: str

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        found: dict[str, Any] = plain(self)
        return found

    @classmethod
    def from_dict(cls, document: Any) -> LaunchEnd:
        """Read a document; raises `DocumentError` with the dotted path of what is wrong."""
        node = Node(document, "")
        return cls(why=node.take("why", str), time=node.take("time", str))


def key_record(launch: str) -> str:
    """Return where a launch's record is."""
    return f"reports/{launch}/launch.json"


def key_end(launch: str) -> str:
    """Return where it is noted that a launch is over."""
    return f"reports/{launch}/ended.json"


def read_record(store: Store, launch: str) -> LaunchRecord | None:
    """Return what the bucket has on a launch, None where it does not know it.

    Raises:
        StoreError: the bucket cannot be read; `MalformedError` where it has something else there.
    """
    return _read(store, key_record(launch), LaunchRecord.from_dict)


def read_end(store: Store, launch: str) -> LaunchEnd | None:
    """Return why and when a launch was over, None while it is not known to be.

    Raises:
        StoreError: the bucket cannot be read; `MalformedError` where it has something else there.
    """
    return _read(store, key_end(launch), LaunchEnd.from_dict)


def write_end(store: Store, launch: str, why: str) -> None:
    """Leave a note in the bucket that a launch is over, and why; best effort, the first counts.

    Secrets that its machines have not read go: nobody will.
    """
    with contextlib.suppress(StoreError):
        for stat in store.list(secrets_prefix(launch)):
            store.delete(stat.key)
    end = LaunchEnd(why=why, time=f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
    with contextlib.suppress(StoreError):
        store.create(key_end(launch), json.dumps(end.to_dict()).encode())


def _read(store: Store, key: str, parse: Callable[[Any], _T]) -> _T | None:
    data = store.read(key, most=MOST)
    if data is None:
        return None
    try:
        return parse(parse_json(data, "launch record"))
    except DocumentError as error:
        raise MalformedError(
            f"Cannot read `{key}` in `{store.url}`", causes=(error.message, *error.causes)
        ) from error
