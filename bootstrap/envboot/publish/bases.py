"""What the bucket has of a base: a whole archive, none, or what machines must not take."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from envboot.agent.fetch import MOST
from envboot.agent.unpack import check_index
from envboot.agent.wire import AgentError, without_query
from envboot.documents import parse_json
from envboot.errors import DocumentError, StoreError
from envboot.publish.archive_index import ArchiveIndex
from envboot.publish.trust import judge_index
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envboot.publish.layout import Keys
    from envboot.publish.trust import TrustPolicy
    from envboot.store.protocol import Stat, Store

ORPHANED = timedelta(hours=1)
"""After this long an archive without an index has lost its publisher."""
MAX_INDEX = MOST
"""Bytes that an index may have, for machines too: that of an environment of 10 GB has 1 MB."""
MOST_CHECKED = 4
"""Frames that are read at most because machines report them: one has up to 48 MiB."""
CHECK_SECONDS = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedBase:
    """A base as machines of this launch may take it.

    `index_sha256` (hex) pins the archive, None where there is none yet. Where the bucket has one
    that nobody can use and that cannot be removed, or that is not trusted, `blocked` says so:
    machines install, and do not publish. With `guarded` they may not take what others publish
    meanwhile, unless one of `signers`, which they verify themselves, has signed it. `problem` is
    what was found wrong, for the user.
    """

    index_sha256: str | None = None
    blocked: bool = False
    guarded: bool = False
    signers: str | None = None
    problem: Problem | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the next machine is to publish it."""
        return self.index_sha256 is None and not self.blocked


def tend_base(
    store: Store, keys: Keys, base: str, policy: TrustPolicy | None = None
) -> PublishedBase:
    """Renew the objects of the base of that digest where they are whole, and remove what is not.

    Without a `policy` anybody's archive is used.

    An archive whose publisher died before it wrote the index goes, so another can publish. So does
    an index that does not parse, is of another base, or is not of the archive beside it.

    Raises:
        StoreError: the bucket cannot be read.
    """
    found, indexed = store.find(keys.archive), store.find(keys.index)
    if indexed is None:
        if found and datetime.now(timezone.utc) - found.modified >= ORPHANED:
            store.delete(keys.archive)
        return PublishedBase()
    fault, index = _judge(store, keys.index, indexed, found, base)
    if not fault:
        return _pin(store, keys, index, policy)
    return _remove(store, keys, f"no machine can use it: {fault}")


def heal_base(store: Store, keys: Keys, base: str, offsets: Iterable[int]) -> PublishedBase | None:
    """Remove the archive of the base of that digest if a frame of it is damaged.

    `offsets` are the frames that machines could not use, as they say. That is only where to look:
    each is read here and compared with the index, so that nobody who forges a report has a good
    archive removed. None where no damage was found.

    Raises:
        StoreError: the bucket cannot be read.
    """
    found, indexed = store.find(keys.archive), store.find(keys.index)
    if indexed is None:
        return None
    fault, data = _judge(store, keys.index, indexed, found, base)
    if fault:
        # The next launch sees to it.
        return None
    document = ArchiveIndex.from_dict(parse_json(data, "index"))
    frames = {frame.offset: frame for frame in document.frames}
    url = store.sign_get(keys.archive, CHECK_SECONDS)
    for offset in sorted(frames.keys() & set(offsets))[:MOST_CHECKED]:
        frame = frames[offset]
        sum_ = hashlib.sha256(_read_range(url, offset, frame.size)).hexdigest()
        if sum_ != frame.sha256:
            text = f"the frame at byte {offset:,} of its archive has sha256 `{sum_}`, "
            return _remove(store, keys, f"{text}expected `{frame.sha256:.64}`")
    return None


def _read_range(url: str, start: int, size: int) -> bytes:
    """Return bytes of an object as machines read them, fewer where it has become shorter.

    Raises:
        StoreError: it cannot be read.
    """
    span = {"Range": f"bytes={start}-{start + size - 1}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=span), timeout=60
        ) as answer:
            data: bytes = answer.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise StoreError(f"Cannot read `{without_query(url)}`", causes=(str(error),)) from error
    return data


def _remove(store: Store, keys: Keys, fault: str) -> PublishedBase:
    """Remove an archive that nobody can use, if these credentials may."""
    place = f"{store.url}/{keys.index}"
    try:
        # Whoever publishes meanwhile is left with an archive alone, and the index comes later.
        for key in (keys.archive, keys.index):
            store.delete(key)
    except StoreError as error:
        text = f"{fault}; machines install, because it cannot be removed: {error.message}"
        return PublishedBase(blocked=True, problem=Problem(subject=place, message=text))
    text = f"{fault}; it is removed, and machines publish another"
    return PublishedBase(problem=Problem(subject=place, message=text))


def _pin(store: Store, keys: Keys, index: bytes, policy: TrustPolicy | None) -> PublishedBase:
    """Return a whole base, pinned where it is trusted."""
    vouchers: tuple[str, ...] = ()
    if policy:
        verdict = judge_index(policy, store, keys, index)
        if verdict.doubt:
            text = f"not used, because {verdict.doubt}: machines install, and do not publish"
            problem = Problem(subject=f"{store.url}/{keys.index}", message=text)
            # Not renewed either: what nobody trusts may expire.
            return PublishedBase(blocked=True, problem=problem)
        vouchers = verdict.vouchers
    for key in (keys.index, keys.archive, keys.manifest, *vouchers):
        store.renew(key)
    return PublishedBase(index_sha256=hashlib.sha256(index).hexdigest())


def _judge(
    store: Store, key: str, indexed: Stat, archive: Stat | None, base: str
) -> tuple[str, bytes]:
    """Return what is wrong with an index, and its bytes if nothing is."""
    if indexed.size > MAX_INDEX:
        return f"it has {indexed.size:,} bytes", b""
    data = store.read(key)
    if data is None:
        return "it went while it was read", b""
    try:
        document = ArchiveIndex.from_dict(parse_json(data, "index"))
    except DocumentError as error:
        return error.message, b""
    if document.base != base:
        return f"it is of base `{document.base:.80}`", b""
    if archive is None:
        return "there is no archive beside it", b""
    if document.size != archive.size:
        text = f"it is of an archive of {document.size:,} bytes, and that one has {archive.size:,}"
        return text, b""
    try:
        # What every machine would refuse must not be pinned.
        check_index(document.to_dict(), base)
    except AgentError:
        return "its frames are not such as machines write", b""
    return "", data
