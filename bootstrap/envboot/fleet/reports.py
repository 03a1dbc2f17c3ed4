"""What instances report through the bucket: one small document for each event.

Agents are of the version that started them, so that members which are not known here are left
out rather than refused.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from envboot.documents import Node, parse_json
from envboot.errors import DocumentError
from envboot.fleet.results import LeftOut, read_left
from envboot.publish.layout import IDENTITY, events_prefix
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from envboot.store.protocol import Store

MOST = 4 << 20
"""Bytes of a report at most: in JSON 256 KiB of output may take six times that."""
KEY = re.compile(
    rf"reports/[^/]+/events/{IDENTITY}(?P<instance>[^/]+)/(?P<ms>\d{{13}})-(?P<event>\w+)\.json"
)
"""The key of a report: a role of AWS may write no other that this matches than its machine's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one stage of a boot took; `error` is why it ended early."""

    stage: str
    ms: int
    error: str | None = None

    @classmethod
    def read(cls, node: Node) -> Stage:
        """Read one member; raises `DocumentError`."""
        return cls(stage=node.take("stage", str), ms=node.take("ms", int), error=node.find("error"))


@dataclass(frozen=True, kw_only=True, slots=True)
class StageError:
    """What went wrong in a stage."""

    stage: str
    error: str

    @classmethod
    def read(cls, node: Node) -> StageError:
        """Read one member; raises `DocumentError`."""
        return cls(stage=node.take("stage", str), error=node.take("error", str))

    def to_dict(self) -> dict[str, str]:
        """Return it as documents of ours have it."""
        return {"stage": self.stage, "error": self.error}


@dataclass(frozen=True, kw_only=True, slots=True)
class BootResult:
    """How a boot ended: `ready`, `degraded` (ready, and something was mended) or `failed`.

    `source` is `archive`, `install` or `present`; empty where it failed before that was known.
    `notes` is what installers printed although they succeeded, such as a post-link script's error.
    """

    outcome: str
    source: str
    environment: str
    stages: tuple[Stage, ...] = ()
    errors: tuple[StageError, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, node: Node) -> BootResult:
        """Read the document; raises `DocumentError`."""
        return cls(
            outcome=node.take("outcome", str),
            source=node.find("source") or "",
            environment=node.find("environment") or "",
            stages=tuple(map(Stage.read, node.children("stages"))),
            errors=tuple(map(StageError.read, node.children("errors"))),
            notes=node.strings("notes"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SeatReport:
    """That an instance knows its rank."""

    rank: int

    @classmethod
    def read(cls, node: Node) -> SeatReport:
        """Read the document; raises `DocumentError`."""
        return cls(rank=node.take("rank", int))


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandReport:
    """How the command ended, after `ms` milliseconds, and the last 256 KiB of its output.

    `pieces` is the number of the last piece of its output in the bucket.

    `exit_code` below zero is a signal's number. `error` is why it was not started at all.
    """

    exit_code: int
    ms: int
    output: str = ""
    pieces: int = 0
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than with 0, or was not started."""
        return self.exit_code != 0 or self.error is not None

    @classmethod
    def read(cls, node: Node) -> CommandReport:
        """Read the document; raises `DocumentError`."""
        return cls(
            exit_code=node.take("exit_code", int),
            ms=node.take("ms", int),
            output=node.find("output") or "",
            pieces=node.take("pieces", int) if node.has("pieces") else 0,
            error=node.find("error"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishReport:
    """What publishing the archive took, in milliseconds; `error` is why it did not."""

    ms: int
    error: str | None = None

    @classmethod
    def read(cls, node: Node) -> PublishReport:
        """Read the document; raises `DocumentError`."""
        return cls(ms=node.take("ms", int), error=node.find("error"))


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncReport:
    """That the wanted document `number` is active after `ms` milliseconds, or why it is not."""

    number: int
    ms: int = 0
    error: str | None = None

    @classmethod
    def read(cls, node: Node) -> SyncReport:
        """Read the document; raises `DocumentError`."""
        return cls(
            number=node.take("number", int),
            ms=node.take("ms", int) if node.has("ms") else 0,
            error=node.find("error"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultsReport:
    """That the index `number` is the last one: files and bytes in it, and what is not.

    `error` is why not all has arrived in the bucket.
    """

    number: int = 0
    files: int = 0
    bytes: int = 0
    left: tuple[LeftOut, ...] = ()
    error: str | None = None

    @classmethod
    def read(cls, node: Node) -> ResultsReport:
        """Read the document; raises `DocumentError`."""
        counts = {
            name: node.take(name, int) if node.has(name) else 0
            for name in ("number", "files", "bytes")
        }
        left = node.take("left", dict) if node.has("left") else {}
        return cls(**counts, left=read_left(left), error=node.find("error"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """That the platform is about to take the instance back, in its own word, and when."""

    notice: str
    time: str
    action: str | None = None
    exit_code: int | None = None

    @classmethod
    def read(cls, node: Node) -> Notice:
        """Read the document; raises `DocumentError`."""
        return cls(
            notice=node.take("notice", str),
            time=node.take("time", str),
            action=node.find("action"),
            exit_code=node.take("exit_code", int) if node.has("exit_code") else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EndReport:
    """That the instance ends itself, why in a word and in a sentence.

    `console` is the end of the journal where it never became ready.
    """

    why: str
    text: str
    console: str | None = None

    @classmethod
    def read(cls, node: Node) -> EndReport:
        """Read the document; raises `DocumentError`."""
        return cls(
            why=node.take("why", str), text=node.take("text", str), console=node.find("console")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What an instance is doing, and how many bytes of it are done, where that is known."""

    stage: str
    done: int
    total: int

    @classmethod
    def read(cls, node: Node) -> StageReport:
        """Read the document; raises `DocumentError`."""
        return cls(
            stage=node.take("stage", str),
            done=node.take("done", int),
            total=node.take("total", int),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reports:
    """Everything that one instance has reported: the newest document of each event.

    `events` are the names of all, in the order of their first report, and `times` (milliseconds
    since 1970, by the instance's clock) those of the newest.
    """

    events: tuple[str, ...] = ()
    result: BootResult | None = None
    command: CommandReport | None = None
    publish: PublishReport | None = None
    synced: SyncReport | None = None
    notice: Notice | None = None
    ended: EndReport | None = None
    stage: StageReport | None = None
    times: Mapping[str, int] = field(default_factory=dict)
    seated: SeatReport | None = None
    results: ResultsReport | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.events)


_READERS: dict[str, Callable[[Node], Any]] = {
    "result": BootResult.read,
    "command": CommandReport.read,
    "publish": PublishReport.read,
    "synced": SyncReport.read,
    "notice": Notice.read,
    "ended": EndReport.read,
    "stage": StageReport.read,
    "seated": SeatReport.read,
    "results": ResultsReport.read,
}
"""The events whose documents say more than that they happened."""


def parse_report(event: str, document: Any) -> Any:
    """Read the document of one event, None where the event itself says all.

    Raises:
        DocumentError: it is not what agents write.
    """
    read = _READERS.get(event)
    return read(Node(document, "")) if read else None


def collect_reports(documents: Iterable[tuple[str, Any]]) -> Reports:
    """Return the reports of one instance from its parsed documents, by event, in order. Pure."""
    events: dict[str, None] = {}
    newest: dict[str, Any] = {}
    for event, document in documents:
        events[event] = None
        if event in _READERS:
            newest[event] = document
    return replace(Reports(**newest), events=tuple(events))


@dataclass(slots=True)
class ReportReader:
    """Reads the reports of one launch, each of them once.

    `malformed` are the keys whose documents no agent of ours has written.
    """

    store: Store
    launch: str
    malformed: list[str] = field(default_factory=list)
    _known: dict[str, Any] = field(default_factory=dict)

    def read(self) -> Mapping[str, Reports]:
        """Return the reports of every instance, by name.

        Raises:
            StoreError: the bucket cannot be read.
        """
        new = []
        for stat in self.store.list(events_prefix(self.launch)):
            match = None if stat.key in self._known else KEY.fullmatch(stat.key)
            if match and (stat.size > MOST or not match["instance"].isprintable()):
                self._drop(stat.key)
            elif match:
                new.append(stat.key)
        if new:
            with ThreadPoolExecutor(min(8, len(new))) as pool:
                for key, data in zip(new, pool.map(self._fetch, new), strict=True):
                    if isinstance(data, MalformedError):
                        self._drop(key)
                    elif data is not None:
                        self._take(key, data)
        found: dict[str, list[tuple[str, Any]]] = {}
        times: dict[str, dict[str, int]] = {}
        for key in sorted(self._known.keys() - set(self.malformed)):
            match = KEY.fullmatch(key)
            assert match
            found.setdefault(match["instance"], []).append((match["event"], self._known[key]))
            times.setdefault(match["instance"], {})[match["event"]] = int(match["ms"])
        return {
            name: replace(collect_reports(documents), times=times[name])
            for name, documents in found.items()
        }

    def _take(self, key: str, data: bytes) -> None:
        match = KEY.fullmatch(key)
        assert match
        try:
            self._known[key] = parse_report(match["event"], parse_json(data, "report"))
        except DocumentError:
            self._drop(key)

    def _fetch(self, key: str) -> bytes | MalformedError | None:
        """Read a report; it may have grown since it was listed."""
        try:
            return self.store.read(key, most=MOST)
        except MalformedError as error:
            return error

    def _drop(self, key: str) -> None:
        self._known[key] = None
        self.malformed.append(key)
