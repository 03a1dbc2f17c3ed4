"""Starting instances: every one of them or none, wherever there is room, and never one twice."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.errors import ProvisionError
from envboot_provisioners.clouds import refuse_unanswered
from envboot_provisioners.gcp import errors
from envboot_provisioners.gcp.clients import RETRY, TIMEOUT
from envboot_provisioners.gcp.machines import (
    ENDING,
    GcpHost,
    end,
    find_labelled,
    refuse_hosts,
    to_host,
)
from envboot_provisioners.gcp.options import PLATFORM
from envboot_provisioners.gcp.request import (
    GcpAttempt,
    compose_bulk,
    compose_metadata,
    find_limit,
    make_request_id,
    name_instance,
)
from envboot_provisioners.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import compute_v1

    from envboot_provisioners import StartRequest
    from envboot_provisioners.gcp.clients import GcpClients
    from envboot_provisioners.gcp.request import GcpPlan

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between two tries of one call."""
LOOK = 1.0
"""Seconds between two looks at an operation."""
LONGEST = 900.0
"""Seconds that starting instances may take."""
SETTLE = 12.0
"""Seconds for which what a call without an answer may have started is looked for."""
ENDED = 180.0
"""Seconds within which everything that was started must be on its way out again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcpRefusal:
    """Why an attempt did not start all that it was to start."""

    attempt: GcpAttempt
    error: Exception


class GcpStart:
    """The instances of one launch while they are being started.

    `started` has what Compute Engine says of each, by its host's name. `_open` are operations
    that may still be starting some; with `_unanswered` there may be one that nobody named.
    """

    def __init__(self, clients: GcpClients, plan: GcpPlan, request: StartRequest) -> None:
        self._clients = clients
        self._plan = plan
        self._request = request
        numbers = range(request.first, request.first + request.count)
        self._hosts = [name_instance(request.launch, number) for number in numbers]
        self._metadata = compose_metadata(
            request.user_data,
            cloud_init=plan.spec.has_cloud_init,
            encoding=request.encoding,
        )
        self._number = 0
        self._open: set[tuple[str, str]] = set()
        self._unanswered = False
        self.started: dict[str, compute_v1.Instance] = {}

    def run(self) -> None:
        """Start all that are missing.

        Spot instances of any zone are preferred to standard ones, and those of one zone to
        those of several, whose traffic costs.

        Raises:
            ProvisionError: not all could be started; those that could may run.
        """
        refusals: list[GcpRefusal] = []
        for market in self._markets():
            for least, zone in self._tries():
                while missing := self._missing():
                    self._number += 1
                    attempt = GcpAttempt(
                        zone=zone,
                        market=market,
                        least=least or len(missing),
                        names=tuple(missing),
                        number=self._number,
                    )
                    error = self._ask(attempt)
                    if error:
                        refusals.append(GcpRefusal(attempt=attempt, error=error))
                        break
                if refusals and errors.find_code(refusals[-1].error) in errors.EXHAUSTED:
                    break
            if not self._missing():
                if refusals:
                    self._end_strays()
                return
        raise self._explain(refusals)

    def _words(self) -> list[object]:
        """Return what no other start has in its request ids."""
        first = self._request.first
        return [self._request.launch, *([first] if first else [])]

    def _missing(self) -> list[str]:
        return [host for host in self._hosts if host not in self.started]

    def _markets(self) -> list[str]:
        spec = self._plan.spec
        return [*(["spot"] if spec.spot else []), *(["standard"] if spec.standard else [])]

    def _tries(self) -> Iterator[tuple[int | None, str]]:
        """Yield how many must be had at least (None for all) and where."""
        for zone in self._plan.zones:
            yield None, zone
        if self._request.count > 1:
            for zone in self._plan.zones:
                yield 1, zone

    def _ask(self, attempt: GcpAttempt) -> Exception | None:
        """Make one call and see it through; returns why another place should be asked.

        Raises:
            ProvisionError: no place would be better.
        """
        body = compose_bulk(
            self._plan,
            attempt,
            launch=self._request.launch,
            metadata=self._metadata,
            room=self._request.room,
            seconds=find_limit(self._request.end, time.time()),
        )
        request = {
            "project": self._plan.project,
            "zone": attempt.zone,
            "request_id": make_request_id(*self._words(), attempt.number),
            "bulk_insert_instance_resource_resource": body,
        }
        try:
            self._await(attempt.zone, self._call(request))
        except errors.FAULTS as error:
            if errors.find_code(error) in errors.CAPACITY | errors.EXHAUSTED:
                return error
            raise self._explain([GcpRefusal(attempt=attempt, error=error)]) from error
        before = len(self.started)
        self._collect(attempt)
        if len(self.started) == before:
            words = "The operation has ended well, and none of its instances is there"
            return errors.OperationError("VM_MIN_COUNT_NOT_REACHED", words)
        return None

    def _call(self, request: dict[str, Any]) -> str:
        """Make one call until it is answered; returns the operation's name."""
        for pause in (*PAUSES, None):
            name, error = self._call_once(request)
            if error is None:
                return name
            if pause is None or not errors.is_busy(error):
                raise error
            time.sleep(pause)
        raise AssertionError

    def _call_once(self, request: dict[str, Any]) -> tuple[str, Exception | None]:
        with defer_interrupts():
            # Until it is answered: the same call is repeated with the same id.
            self._unanswered = True
            try:
                answer = self._clients.instances.bulk_insert_unary(
                    request=request, retry=None, timeout=TIMEOUT
                )
            except errors.FAULTS as error:
                self._unanswered = errors.is_lost(error)
                return "", error
            self._unanswered = False
            self._open.add((request["zone"], answer.name))
            return str(answer.name), None

    def _await(self, zone: str, name: str) -> None:
        """Wait for an operation.

        Raises:
            OperationError: it failed, or takes too long.
        """
        deadline = time.monotonic() + LONGEST
        while not (found := self._look(zone, name)):
            if time.monotonic() > deadline:
                words = f"The operation `{name}` still runs after {LONGEST:g} s"
                raise errors.OperationError("TIMEOUT", words)
            time.sleep(LOOK)
        errors.raise_failed(found)

    def _look(self, zone: str, name: str) -> compute_v1.Operation | None:
        """Return an operation once it is done."""
        request = {"project": self._plan.project, "zone": zone, "operation": name}
        found = self._clients.operations.get(request=request, retry=RETRY, timeout=TIMEOUT)
        # The name, as the library's enumeration says it.
        if found.status.name != "DONE":
            return None
        self._open.discard((zone, name))
        return found

    def _find(self) -> list[Any]:
        """Return all instances of this start that are not on their way out."""
        launch = self._request.launch
        found = find_labelled(self._clients, [launch]).get(launch, [])
        ours = set(self._hosts)
        return [item for item in found if item.name in ours and item.status not in ENDING]

    def _collect(self, attempt: GcpAttempt) -> None:
        """Take up what an attempt has started."""
        for item in self._find():
            if item.name in attempt.names and item.zone.rpartition("/")[2] == attempt.zone:
                self.started[item.name] = item

    def _end_strays(self) -> None:
        """End what refused attempts have left, so that each host is there once."""
        ours = {item.id for item in self.started.values()}
        left = [item for item in self._find() if item.id not in ours]
        failed = end(self._clients, map(to_host, left))
        if failed:
            raise refuse_hosts(self._plan.project, failed, len(left))

    def undo(self) -> None:
        """End all that was started, and all that is still being started.

        Raises:
            ProvisionError: some could not be ended; it names each, with the command for it.
        """
        start = time.monotonic()
        asked: set[int] = set()
        failed: dict[GcpHost, str] = {}
        while True:
            new = {item.id: to_host(item) for item in self._find_left() if item.id not in asked}
            asked |= new.keys()
            failed |= end(self._clients, new.values())
            waited = time.monotonic() - start
            settled = not self._unanswered or waited > SETTLE or len(asked) >= self._request.count
            if (settled and not new and not self._open) or waited > ENDED:
                break
            time.sleep(LOOK)
        if failed:
            raise refuse_hosts(self._plan.project, failed, len(asked))
        if self._open:
            names = ", ".join(f"`{name}` in `{zone}`" for zone, name in sorted(self._open))
            raise ProvisionError(
                f"Operations on {PLATFORM} still run, and may start instances: {names}",
                hint=f"End those with `envboot terminate {self._request.launch}`",
            )
        self.started.clear()

    def _find_left(self) -> list[Any]:
        """Return what is there of the launch, after a look at what may still be starting some.

        Raises:
            ProvisionError: nobody tells.
        """
        try:
            for zone, name in list(self._open):
                self._look(zone, name)
            return self._find()
        except errors.FAULTS as error:
            launch = self._request.launch
            words = f"Cannot tell what launch `{launch}` has started: {PLATFORM} does not answer"
            raise refuse_unanswered(launch, errors.explain(error, words)) from error

    def _explain(self, refusals: list[GcpRefusal]) -> ProvisionError:
        """Return one error for all refusals: each zone and market once, with its reason."""
        many, kind = self._request.count, self._plan.spec.machine_type
        message = f"Failed to start {many} `{kind}` on {PLATFORM}"
        if self.started:
            message += f": only {len(self.started)} could be had"
        reasons: dict[str, None] = {}
        for refusal in refusals:
            where = f"`{refusal.attempt.zone}`, {refusal.attempt.market}"
            reasons[f"{where}: {errors.tell(refusal.error)}"] = None
        hint = errors.find_hint(refusals[-1].error)
        return ProvisionError(message, causes=tuple(reasons), hint=hint)
