"""Scheduler and workers as `SpecCluster` knows them: each is a machine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from distributed.core import Status, rpc
from distributed.deploy.spec import ProcessInterface

from envboot.cluster.dask_commands import PORT
from envboot.errors import EnvbootError, GuestError
from envboot.fleet.outcomes import describe_end, find_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Protocol

    from envboot.cluster.machines import Machines
    from envboot.fleet.outcomes import Outcome
    from envboot_provisioners import Instance, Provisioner

    class Pool(Protocol):
        """Gives machines to workers, and takes them back."""

        async def take(self, name: Hashable) -> Instance:
            """Return the machine of a worker, started if need be."""

        async def give_back(self, instance: Instance) -> None:
            """End the machine of a worker."""


POLL, REMOTE_POLL = 0.05, 1.0
"""Seconds between two tries to reach the scheduler."""
CONNECT = 3.0
"""Seconds for which one try waits: behind a firewall there is no answer at all."""
TAIL = 30
"""How many last lines of what a process printed an error shows: a traceback or two."""


class SchedulerProcess(ProcessInterface):
    """The scheduler's machine; it has started when the scheduler answers.

    `address` is where this process reaches it, `contact_address` where workers do.
    """

    def __init__(
        self,
        *,
        machines: Machines,
        provisioner: Provisioner,
        started: Callable[[], asyncio.Future[Instance]],
        timeout: float,
    ) -> None:
        super().__init__()
        self._machines = machines
        self._provisioner = provisioner
        self._started = started
        self._timeout = timeout
        self.contact_address = ""

    async def start(self) -> None:
        """Wait until the scheduler answers.

        Raises:
            GuestError: it failed, with the machine's own reason, or did not answer in time.
        """
        deadline = time.monotonic() + self._timeout
        instance = await self._started()
        self.contact_address = self._machines.contact
        pause, looked = REMOTE_POLL if self._machines.is_remote else POLL, 0.0
        addresses = [instance.address]
        while True:
            for address in filter(None, addresses):
                if await self._answers(f"tls://{address}:{PORT}"):
                    self.address = f"tls://{address}:{PORT}"
                    await super().start()
                    return
            if time.monotonic() - looked > 4 * pause:
                outcome = await self._look(instance)
                looked = time.monotonic()
                if outcome and outcome.state and outcome.state.public_address:
                    addresses = [outcome.state.public_address, instance.address]
                if outcome and has_ended(outcome):
                    raise GuestError(
                        f"Failed to start the scheduler on `{instance.name}`",
                        causes=(tell_end(self._provisioner, outcome),),
                    )
                if time.monotonic() > deadline:
                    raise self._refuse_late(instance, outcome, addresses)
            await asyncio.sleep(pause)

    async def _look(self, instance: Instance) -> Outcome | None:
        outcomes = await asyncio.to_thread(self._machines.look)
        return next((o for o in outcomes if o.instance.name == instance.name), None)

    async def _answers(self, address: str) -> bool:
        arguments = self._machines.security.get_connection_args("client")
        # A port that refuses is told apart cheaply from one that must shake hands.
        host = address.removeprefix("tls://").rpartition(":")[0]
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, PORT), CONNECT)
            writer.close()
        except (OSError, asyncio.TimeoutError):
            return False
        remote: Any = rpc(address, connection_args=arguments, timeout=CONNECT)
        try:
            await remote.identity()
        except OSError:
            return False
        finally:
            await remote.close_rpc()
        return True

    def _refuse_late(
        self, instance: Instance, outcome: Outcome | None, addresses: list[str | None]
    ) -> GuestError:
        tried = ", ".join(f"`{address}:{PORT}`" for address in filter(None, addresses))
        ready = bool(outcome and outcome.result)
        cause = (
            f"`{instance.name}` is ready, and nothing answers at {tried}"
            if ready or outcome is None
            else find_reason(self._provisioner, outcome)
        )
        return GuestError(
            f"Expected the scheduler to answer within {self._timeout:g} s",
            causes=(cause,),
            hint=f"Let this machine reach port {PORT} of the cluster's machines, by a rule of "
            "their security group or firewall, or a VPN"
            if ready and self._machines.is_remote
            else "Give it longer with `timeout=SECONDS`",
        )

    async def close(self) -> None:
        """Do nothing more: the machine ends with all others."""
        await super().close()


class WorkerProcess(ProcessInterface):
    """A worker's machine; it has started when the platform has started it."""

    def __init__(
        self,
        scheduler: str,
        name: Hashable,
        *,
        pool: Pool,
        nthreads: int | None = None,
        memory_limit: Any = None,
    ) -> None:
        # `scale(cores=…)` reads the last two in the specification.
        del scheduler, nthreads, memory_limit
        super().__init__()
        self.name = name
        self.instance: Instance | None = None
        self._pool = pool

    async def start(self) -> None:
        """Ask for the machine, together with those of other workers.

        Raises:
            ProvisionError: it cannot be started.
        """
        try:
            self.instance = await self._pool.take(self.name)
        except BaseException:
            self.status = Status.failed
            raise
        await super().start()

    async def close(self) -> None:
        """End the machine."""
        self.status = Status.closing
        if self.instance:
            with contextlib.suppress(asyncio.CancelledError):
                await self._pool.give_back(self.instance)
        await super().close()


def has_ended(outcome: Outcome) -> bool:
    """Whether a machine's process of Dask runs no more, or never will."""
    return outcome.failed or outcome.gone or outcome.reports.command is not None


def tell_end(provisioner: Provisioner, outcome: Outcome) -> str:
    """Say why a machine's process of Dask does not run, in its own last words."""
    command = outcome.reports.command
    if command is None:
        with contextlib.suppress(EnvbootError):
            return find_reason(provisioner, outcome)
        return f"`{outcome.instance.name}` has ended"
    if command.error:
        return f"`{outcome.instance.name}`: {command.error}"
    lines = command.output.strip().splitlines()[-TAIL:]
    end = f"`{outcome.instance.name}` {describe_end(command.exit_code)}"
    return "\n    ".join([f"{end}; it printed last", *lines]) if lines else end
