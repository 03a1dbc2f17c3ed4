"""What a cluster does by itself: it looks at its machines, and replaces those that end."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import dask
import distributed.versions
from dask.utils import parse_timedelta
from distributed.core import Status
from distributed.deploy.spec import SpecCluster

from envboot.cluster.processes import has_ended, tell_end
from envboot.errors import EnvbootError, GuestError
from envboot.text import show_controls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Hashable, Mapping, Sequence

    from envboot.cluster.machines import Machines
    from envboot.fleet.outcomes import Outcome
    from envboot_provisioners import Provisioner

LOOK, REMOTE_LOOK = 0.5, 5.0
"""Seconds between two looks at the machines."""
FAILURES = 3
"""So many workers' machines in a row may fail before no more are started for them."""


class KeptCluster(SpecCluster):
    """A cluster that keeps as many workers as it should have, whatever becomes of machines."""

    scheduler_comm: Any

    def keep(self, machines: Machines, provisioner: Provisioner) -> None:
        """Take these to be its machines; to be called before anything starts."""
        self._machines = machines
        self._provisioner = provisioner
        self._tasks: set[asyncio.Future[Any]] = set()
        self._failures = 0
        self._trouble: EnvbootError | None = None

    def _update_worker_status(self, op: str, msg: Any) -> None:
        added = list(msg["workers"]) if op == "add" else []
        super()._update_worker_status(op, msg)
        if added:
            self._failures = 0
            self._spawn(self._compare_versions(added))
        else:
            # A worker that does not come back is closed by then: another takes its place.
            delay = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
            asyncio.get_running_loop().call_later(delay + 0.5, self._mend)

    def _mend(self) -> None:
        """Start what is missing, in the background."""
        if self.status == Status.running:
            # Whoever closes the cluster waits for it.
            self._spawn(asyncio.shield(self._correct_state()))

    def _spawn(self, work: Awaitable[Any]) -> None:
        """Do something in the background; an error goes into the cluster's log."""

        async def run() -> None:
            try:
                await work
            except EnvbootError as error:
                self._log(f"error: {error}")
            except Exception as error:
                # Mostly the scheduler that has gone, or is going.
                self._log(f"error: {error!r}")

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Look at the machines until the cluster closes; replace workers whose machine ended."""
        pause = REMOTE_LOOK if self._machines.is_remote else LOOK
        while self.status == Status.running:
            await asyncio.sleep(pause)
            try:
                outcomes = await asyncio.to_thread(self._machines.look)
                if self.status == Status.running:
                    await self._take_in({o.instance.name: o for o in outcomes if has_ended(o)})
            except Exception as error:
                # The next look may do better; the cluster itself does not depend on it.
                told = error.message if isinstance(error, EnvbootError) else repr(error)
                self._log(f"warning: {told}")
            if self._machines.is_closed:
                return

    async def _take_in(self, ended: Mapping[str, Outcome]) -> None:
        """Act on machines that have ended."""
        scheduler = self._machines.scheduler
        if scheduler and scheduler.name in ended:
            why = tell_end(self._provisioner, ended[scheduler.name])
            self._log(f"error: The scheduler has ended: {why}")
            self._trouble = GuestError("The scheduler has ended", causes=(why,))
            await asyncio.to_thread(self._machines.close, "failed")
            self.status = Status.failed
            return
        gone = {
            name: tell_end(self._provisioner, ended[worker.instance.name])
            for name, worker in self.workers.items()
            if worker.instance and worker.instance.name in ended
        }
        refused = {
            name: "the platform did not start its machine"
            for name, worker in self.workers.items()
            if worker.status == Status.failed
        }
        found = {name: why for name, why in (gone | refused).items() if name in self.worker_spec}
        for name, why in found.items():
            # The whole of it comes once, with the error, or from `envboot why`.
            lines = why.splitlines()
            short = lines[0] if len(lines) < 2 else f"{lines[0]} … {lines[-1].strip()}"
            self._log(f"worker {name} has ended: {short}")
            self._failures += 1
            if self._failures > FAILURES:
                del self.worker_spec[name]
                self._trouble = GuestError(
                    f"{self._failures} machines of workers have failed in a row",
                    causes=(why,),
                    hint="`cluster.logs()` has them all; `cluster.scale(n)` tries again",
                )
                self._log(f"error: {self._trouble}")
        await self._replace(list(found))

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:
        """Wait as Dask does, but not for machines that never come."""
        waiting = asyncio.ensure_future(super()._wait_for_workers(n_workers, timeout=timeout))
        while not waiting.done():
            await asyncio.wait([waiting], timeout=0.2)
            if self._trouble and not waiting.done():
                waiting.cancel()
                raise self._trouble
        await waiting

    async def _compare_versions(self, workers: Sequence[str] = ()) -> None:
        """Warn when client, scheduler and these workers do not have the same packages."""
        here = distributed.versions.get_versions()
        scheduler = await self.scheduler_comm.versions()
        there = (
            await self.scheduler_comm.broadcast(
                msg={"op": "versions"}, workers=list(workers), on_error="ignore"
            )
            if workers
            else {}
        )
        told = distributed.versions.error_message(scheduler, there, here)
        for text in filter(None, (told["error"], told["warning"])):
            warnings.warn(
                distributed.versions.VersionMismatchWarning(show_controls(text)), stacklevel=2
            )

    async def _replace(self, names: Sequence[Hashable]) -> None:
        """End the machines of these workers, and start others for those that are still wanted."""
        closing = [self.workers.pop(name).close() for name in names]
        await asyncio.gather(*closing)
        if names:
            self._mend()
