"""Starting instances: every one of them or none, wherever there is room, and never one twice."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envboot.errors import ProvisionError
from envboot_provisioners.aws import errors
from envboot_provisioners.aws.quotas import find_quota
from envboot_provisioners.aws.request import AwsAttempt, compose_run
from envboot_provisioners.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot_provisioners import StartRequest
    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.fresh import FreshInstances
    from envboot_provisioners.aws.request import AwsPlan

BATCH = 100
"""Instances of one call: EC2 asks for several smaller ones (API Reference, RunInstances)."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between two tries of one call: a new instance profile is known within about ten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsRefusal:
    """Why an attempt started nothing."""

    attempt: AwsAttempt
    error: Exception

    @property
    def code(self) -> str:
        """The service's word for it."""
        return errors.find_code(self.error)


class AwsStart:
    """One launch while its instances are being started.

    `started` has what EC2 said of each, by id; `fresh` is told of them. `unknown` is how many more
    calls may have started whose answer did not arrive.
    """

    def __init__(
        self,
        clients: AwsClients,
        plan: AwsPlan,
        request: StartRequest,
        fresh: FreshInstances,
    ) -> None:
        self._clients = clients
        self._plan = plan
        self._request = request
        self._fresh = fresh
        self._lost = 0
        self._number = 0
        self.started: dict[str, Any] = {}
        self.account: str | None = None
        self.unknown = 0

    def run(self) -> None:
        """Start all that are missing.

        Spot instances of any zone are preferred to on-demand ones, and those of one zone to
        those of several, whose traffic costs.

        Raises:
            ProvisionError: not all could be started; those that could run.
        """
        refusals: list[AwsRefusal] = []
        for market in self._markets():
            for least, place in self._tries():
                while self._missing:
                    most = self._missing if self._plan.together else min(self._missing, BATCH)
                    self._number += 1
                    attempt = AwsAttempt(
                        place=place,
                        market=market,
                        least=least or most,
                        most=most,
                        number=self._number,
                    )
                    refusal = self._ask(attempt)
                    if refusal:
                        refusals.append(refusal)
                        break
                if refusals and refusals[-1].code in errors.EXHAUSTED:
                    break
            if not self._missing:
                return
        raise self._explain(refusals)

    @property
    def _missing(self) -> int:
        return self._request.count - len(self.started)

    def _markets(self) -> Iterator[str]:
        if self._plan.spec.spot:
            yield "spot"
        if self._plan.spec.on_demand:
            yield "on-demand"

    def _tries(self) -> Iterator[tuple[int, Any]]:
        """Yield each place, first for all that are missing, then for as many as it has."""
        for place in self._plan.places:
            yield 0, place
        if self._request.count > 1 and not self._plan.together:
            for place in self._plan.places:
                yield 1, place

    def _ask(self, attempt: AwsAttempt) -> AwsRefusal | None:
        """Make one call until it is answered; returns why another place should be asked."""
        arguments = compose_run(
            self._plan,
            attempt,
            launch=self._request.launch,
            user_data=self._request.user_data,
            room=self._request.room,
            first=self._request.first,
        )
        for pause in (*PAUSES, None):
            error = self._call(arguments, attempt)
            if error is None:
                return None
            code = errors.find_code(error)
            if code in errors.CAPACITY | errors.EXHAUSTED:
                self._lost = self.unknown
                return AwsRefusal(attempt=attempt, error=error)
            again = errors.is_busy(error) or errors.has_unknown_profile(error)
            if pause is None or not again:
                raise self._explain([AwsRefusal(attempt=attempt, error=error)]) from error
            time.sleep(pause)
        raise AssertionError

    def _call(self, arguments: dict[str, Any], attempt: AwsAttempt) -> Exception | None:
        with defer_interrupts():
            # Until it is answered, and what an earlier call of the same token did, if that is open.
            before, self.unknown = self.unknown, self._lost + attempt.most
            try:
                answer = self._clients.starting.run_instances(**arguments)
            except errors.FAULTS as error:
                if not errors.is_lost(error):
                    self.unknown = before
                return error
            self.unknown = self._lost
            self.account = answer.get("OwnerId")
            self.started.update((item["InstanceId"], item) for item in answer["Instances"])
            self._fresh.add(item["InstanceId"] for item in answer["Instances"])
        return None

    def _explain(self, refusals: list[AwsRefusal]) -> ProvisionError:
        """Return one error for all refusals: each place and market once, with its reason."""
        many = self._request.count
        message = f"Failed to start {many} `{self._plan.spec.instance_type}` on EC2"
        if self.started:
            message += f": only {len(self.started)} could be had"
        last = refusals[-1]
        told = self._clients.explain(last.error, message)
        reasons: dict[str, None] = {}
        for refusal in refusals:
            where = f"`{refusal.attempt.place.zone}`, {refusal.attempt.market}"
            reasons[f"{where}: {errors.tell(refusal.error)}"] = None
        causes = [*reasons, *told.causes[1:]]
        hint = told.hint
        if last.code in ("VcpuLimitExceeded", "MaxSpotInstanceCountExceeded"):
            quota = find_quota(self._plan.spec.instance_type, last.attempt.market)
            code = f" ({quota.code})" if quota.code else ""
            causes.append(f"The quota is `{quota.name}`{code} in `{self._plan.region}`, in vCPUs")
        return ProvisionError(message, causes=tuple(causes), hint=hint)
