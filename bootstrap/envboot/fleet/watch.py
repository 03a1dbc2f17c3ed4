"""The instances of one launch, seen from anywhere: by the bucket, and by their platform."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from envboot.errors import (
    EnvbootError,
    GuestError,
    LateError,
    ProvisionError,
    StoreError,
    UnseenError,
    name_some,
)
from envboot.fleet.outcomes import Outcome, find_reason
from envboot.fleet.peers import clear_secrets
from envboot.fleet.reports import ReportReader, Reports
from envboot.publish.layout import events_prefix
from envboot.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envboot.publish.launch_record import LaunchEnd, LaunchRecord
    from envboot.store.protocol import Store
    from envboot_provisioners import Instance, Provisioner, State

POLL, LONGEST = 0.05, 2.0
"""Seconds between two looks at first, and at most, where instances run on this machine."""
REMOTE_POLL, REMOTE_LONGEST = 0.5, 5.0
"""The same for a cloud, which counts requests."""
SILENT_LONGEST = 30.0
"""Seconds between two looks at most while bucket or platform do not answer."""
SILENT, LISTEN = 60, 30
"""Seconds after which the console of an instance without any report is read, and how often."""
READY = 1800
"""Seconds within which instances must be ready where no time-out is given."""


class Goal(Enum):
    """How far instances must come: ready, or done with all that they were started for."""

    READY = "ready"
    DONE = "done"


class Looker(Protocol):
    """Is told what was seen."""

    def progress(self, outcomes: Sequence[Outcome]) -> None:
        """Instances were looked at once more."""

    def silence(self, error: EnvbootError, seconds: float) -> None:
        """Bucket or platform has not answered for so many seconds; the instances go on."""


@dataclass(kw_only=True, slots=True)
class Fleet:
    """One launch: where it reports, and who makes its instances, where that is known.

    `count` is how many instances there should be, `command` whether they run one, `output` whether
    what it makes goes to the bucket, `about` what the bucket has on the launch, `ends` when its
    instances end by themselves (UTC, or `never`), `end` why and when it was over, None while it is
    not. `unread` are the keys of such documents that are none. `unseen` says why its platform
    cannot be asked, and there is no `provisioner` then. With `is_ours` every instance is added
    here: what others report is nobody's, or a machine's that pretends to be one more. `secrets`
    are, by name, the instances that have an object in the bucket which goes once they have read
    it: machines with a role cannot remove it.
    """

    launch: str
    store: Store
    provisioner: Provisioner | None
    count: int = 0
    command: bool = False
    output: bool = False
    about: LaunchRecord | None = None
    ends: str | None = None
    end: LaunchEnd | None = None
    unread: list[str] = field(default_factory=list)
    unseen: UnseenError | None = None
    is_ours: bool = False
    secrets: dict[str, Instance] = field(default_factory=dict)
    _instances: dict[str, Instance] = field(default_factory=dict)
    _reader: ReportReader = field(init=False)
    _states: dict[str, State] = field(default_factory=dict)
    _reported: frozenset[str] = frozenset()
    _asked: float = float("-inf")
    # A cluster adds instances in one thread and looks in another.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._reader = ReportReader(self.store, self.launch)

    def add(self, instances: Sequence[Instance]) -> None:
        """Take these to be its instances, beside those that report."""
        with self._lock:
            self._instances |= {instance.name: instance for instance in instances}

    @property
    def instances(self) -> list[Instance]:
        """The instances that are known: those that were added, and those that have reported."""
        with self._lock:
            return list(self._instances.values())

    @property
    def malformed(self) -> list[str]:
        """The keys of documents that envboot has not written, and that were left out."""
        strangers = sorted(self._reported - self._instances.keys()) if self.is_ours else []
        folders = [f"{events_prefix(self.launch)}{name}/" for name in strangers]
        return [*self.unread, *self._reader.malformed, *folders]

    @property
    def is_remote(self) -> bool:
        """Whether its platform is not this machine."""
        return self.provisioner is None or self.provisioner.is_remote

    def clear_secrets(self, names: Iterable[str]) -> None:
        """Remove what these instances were to read, or have read.

        Raises:
            StoreError: the bucket refuses.
        """
        with self._lock:
            known = sorted(self.secrets.keys() & set(names))
            gone = [self.secrets.pop(name) for name in known]
        clear_secrets(self.store, self.launch, gone)

    def look(self) -> list[Outcome]:
        """Return every instance that is known, with what it reported until now.

        Raises:
            StoreError: the bucket cannot be read.
            ProvisionError: the platform does not answer.
        """
        with self._lock:
            return self._look()

    def _look(self) -> list[Outcome]:
        # Asked first: what an instance reported before it ended is in the bucket by then.
        self._ask(self._instances.values())
        reports = self._reader.read()
        self._reported = frozenset(reports)
        self.clear_secrets([name for name in reports if "seated" in reports[name].events])
        if not self.is_ours:
            from envboot_provisioners import Instance

            new = {
                name: Instance(name=name, launch=self.launch)
                for name in reports
                if name not in self._instances
            }
            self._instances |= new
            self._ask(new.values(), now=True)
        return [
            Outcome(
                instance=instance,
                output=self.output,
                reports=reports.get(name, Reports()),
                state=self._states.get(name) or self._ended(),
            )
            for name, instance in self._instances.items()
        ]

    def _ask(self, instances: Iterable[Instance], *, now: bool = False) -> None:
        """Ask for the instances' states; a cloud at most every few seconds."""
        asked = list(instances)
        if self.provisioner is None or not asked:
            return
        if not now and self.is_remote and time.monotonic() - self._asked < REMOTE_LONGEST:
            return
        self._states |= self.provisioner.states(asked)
        self._asked = time.monotonic()

    def _ended(self) -> State | None:
        """Return the state of what nobody can be asked about, once the launch is over."""
        if not self.end:
            return None
        from envboot_provisioners import State

        return State(alive=False, word="ended")


def wait(fleet: Fleet, goal: Goal, *, timeout: float | None, looker: Looker) -> list[Outcome]:
    """Look at a launch until every instance has come as far as the goal, or never will.

    Without `timeout` (seconds) they must be ready within half an hour, and the rest may take
    any time.

    Raises:
        GuestError: they were not ready, or done, in time, with each one's own reason; or one
            cannot even report, and says on its console why.
        StoreError, ProvisionError: bucket or platform did not answer, and the time is over.
        LateError: the command still ran.
    """
    consoles = Consoles(fleet)
    pause, longest = (REMOTE_POLL, REMOTE_LONGEST) if fleet.is_remote else (POLL, LONGEST)
    start = heard = time.monotonic()
    outcomes: list[Outcome] = []
    while True:
        try:
            outcomes = fleet.look()
            late = [outcome for outcome in outcomes if not _is_there(outcome, goal, fleet)]
            consoles.check(late)
            looker.progress(outcomes)
            heard = time.monotonic()
        except (StoreError, ProvisionError) as error:
            # Failing to look is no news: the instances run, whatever became of our network.
            now = time.monotonic()
            looker.silence(error, now - heard)
            limit = READY if timeout is None and not outcomes else timeout
            if limit is not None and now - start > limit:
                raise
            time.sleep(min(SILENT_LONGEST, max(pause, (now - heard) / 4)))
            continue
        if not late and (len(outcomes) >= max(fleet.count, 1) or fleet.end):
            if not outcomes:
                raise GuestError(f"No instance of `{fleet.launch}` reported; {tell_end(fleet)}")
            return outcomes
        if time.monotonic() - start > (READY if timeout is None else timeout):
            if timeout is None:
                late = [outcome for outcome in late if not outcome.result]
            if late or not outcomes:
                raise _refuse_late(fleet, late, goal, timeout)
        time.sleep(pause)
        pause = min(longest, pause * 1.1)


def tell_end(fleet: Fleet) -> str:
    """Say why and when a launch was over; empty while it is not."""
    end = fleet.end
    return f"it is over: {one_line(end.why)}, at {one_line(end.time)}" if end else ""


class Consoles:
    """Listens to instances that do not report: a role may be missing, a bucket out of reach."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._next = time.monotonic() + SILENT

    def check(self, outcomes: Sequence[Outcome]) -> None:
        """Raise GuestError for those that never reported and say that they have failed."""
        provisioner = self._fleet.provisioner
        if provisioner is None or not self._fleet.is_remote or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LISTEN
        silent = [outcome.instance for outcome in outcomes if not outcome.reports]
        told = {each.name: find_failure(provisioner.console(each)) for each in silent}
        failed = {name: words for name, words in told.items() if words}
        if failed:
            raise GuestError(
                f"Failed to bring up {len(failed)} instances, which cannot report: "
                + name_some(list(failed)),
                causes=tuple(f"`{name}`: {words}" for name, words in list(failed.items())[:3]),
                hint="Their consoles say it: they cannot reach the bucket, or may not use it",
            )


_GAVE_UP = re.compile(r"^.*?envboot: ((?:failed: |Expected |Failed to ).+?)\r?$", re.MULTILINE)


def find_failure(console: str) -> str | None:
    """Return in which words script or agent said on the console that they gave up."""
    found = _GAVE_UP.findall(console)
    return found[-1] if found else None


def _is_there(outcome: Outcome, goal: Goal, fleet: Fleet) -> bool:
    if goal is Goal.READY:
        return bool(outcome.result) or outcome.gone
    return outcome.is_done(command=fleet.command)


def _refuse_late(
    fleet: Fleet, late: list[Outcome], goal: Goal, timeout: float | None
) -> EnvbootError:
    names = name_some([outcome.instance.name for outcome in late])
    if late and all(outcome.result for outcome in late):
        return LateError(
            f"The command was still running after {timeout:g} s on {names}",
            hint="Give it longer with `--timeout SECONDS`, or leave the option out",
        )
    wanted = "ready" if timeout is None or goal is Goal.READY else "done"
    limit = READY if timeout is None else timeout
    return GuestError(
        f"Expected every instance to be {wanted} within {limit:g} s, not yet: "
        + (names or f"none of `{fleet.launch}` has reported"),
        causes=tuple(find_reason(fleet.provisioner, outcome) for outcome in late[:3]),
        hint="Give it longer with `--timeout SECONDS`",
    )
