"""`Cluster`: Dask's `SpecCluster` on machines with this very environment."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import sys
import threading
import time
import weakref
from datetime import datetime
from typing import TYPE_CHECKING, Any

from distributed.core import Status
from distributed.utils import Log, format_dashboard_link

from envboot.cluster.arguments import (
    DEFAULTS,
    ClusterOptions,
    describe_machine_options,
    split_options,
)
from envboot.cluster.batch import Batch
from envboot.cluster.dashboard import Dashboard
from envboot.cluster.machines import Machines
from envboot.cluster.processes import SchedulerProcess, WorkerProcess, tell_end
from envboot.cluster.reload import forget_layer
from envboot.cluster.spec import make_spec
from envboot.cluster.supervision import KeptCluster
from envboot.errors import EnvbootError, UsageError, name_some
from envboot.session import open_session
from envboot.signatures import lists_keywords
from envboot.text import count, show_controls

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from typing_extensions import Unpack

    from envboot_provisioners import Instance

PUBLISH = 180
"""Seconds for which a cluster that closes waits until its environment is published."""
RESTART = 60
"""Seconds within which workers must be back after a sync."""


class Cluster(KeptCluster):
    """A Dask cluster on machines of a provisioner, with the environment of this process.

    Args:
        n_workers: how many workers, each on a machine of its own.
        provisioner: who makes the machines: `local`, `aws`, `gcp`, or another that is installed.
        store: the bucket's URL; else `tool.envboot.store`, else a folder of this user.
        environment: instead of this process's: a manifest (or its file), a lock file, or the name
            of a published environment (`forecast@latest`).
        name: what the cluster is called; the launch's name without one.
        worker_options: options of `dask worker`: `{"nthreads": 2, "memory_limit": "4GiB",
            "resources": {"GPU": 1}}`.
        scheduler_options: options of `dask scheduler`: `{"idle_timeout": "1 hour"}`.
        environ: variables of scheduler and workers. They are part of user-data: no secrets.
        secrets: secret variables of scheduler and workers: `["API_TOKEN"]` takes its value from
            this environment, `["API_TOKEN=@FILE"]` from a file, `{"API_TOKEN": value}` as given;
            `["API_TOKEN=arn:…"]` names one that the machines' cloud keeps.
        env_file: a `.env` file whose variables are secrets too.
        timeout: seconds within which the scheduler must answer.
        expires: how long machines may use the bucket by signed URLs: `90s`, `15m`, `24h`, at most
            `7d`, or seconds.
        max_life: when a machine ends by itself after its start, whatever becomes of this process:
            `12h`, `7d`, `never`.
        cuda: the CUDA version that the machines' driver runs, such as `12.4`.
        package_sync: True as without it; or packages, as of `package_sync_only`.
        package_sync_ignore: packages that stay here.
        package_sync_only: only these packages, and what they need.
        package_sync_conda_extras: packages that machines get besides.
        package_sync_strict: refuse what will not arrive exactly as it is installed.
        package_sync_fail_on: `critical-only`, `warning-or-higher` or `any`: which notes refuse.
        package_sync_use_uv_installer: True: machines install wheels with uv.
        asynchronous: for use within an event loop: `await Cluster(asynchronous=True)`.
        loop: the event loop to run on, Dask's own without one.
        quiet: print nothing of what goes on.
        shutdown_on_close: whether to close the cluster when the program exits.

    The provisioner's own options are keyword arguments too, as its command has them:
    `instance_type="m6i.xlarge"`, `spot=True` (for workers only), `auth="role"`.

    Raises:
        UsageError: an argument is not what it must be.
        LockError: a package is missing that Dask needs, or cannot be had.
        GuestError: the scheduler did not start, with the machine's own reason. Whatever fails,
            no machine is left running.
    """

    @lists_keywords(ClusterOptions, DEFAULTS)
    def __init__(self, n_workers: int = 4, **options: Unpack[ClusterOptions]) -> None:
        own, _ = split_options(options)
        self._is_quiet = own["quiet"]
        many: Any = n_workers
        if not isinstance(many, int) or many < 0:
            raise UsageError(f"Expected `n_workers` as a number from 0, found `{n_workers!r:.40}`")
        spec = make_spec(options, open_session())
        self.keep(Machines(spec), spec.provisioner)
        self._starting: asyncio.Future[Instance] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._dashboard: Dashboard | None = None
        self._taking: Batch[Hashable, Instance] = Batch(self._machines.start_workers)
        self._ending: Batch[str, None] = Batch(self._end)
        self._given: dict[str, Instance] = {}
        # The last guard: a cluster that nobody closes ends with this process, or before.
        self._guard = weakref.finalize(self, self._machines.close)
        end_at_sigterm()
        worker_options = own["worker_options"] or {}
        known = {key: worker_options.get(key) for key in ("nthreads", "memory_limit")}
        worker = {
            "cls": WorkerProcess,
            "options": {"pool": self, **{k: v for k, v in known.items() if v is not None}},
        }
        try:
            super().__init__(
                workers=dict.fromkeys(range(n_workers), worker),
                scheduler={
                    "cls": SchedulerProcess,
                    "options": {
                        "machines": self._machines,
                        "provisioner": spec.provisioner,
                        "started": self._started,
                        "timeout": spec.timeout,
                    },
                },
                worker=worker,
                asynchronous=own["asynchronous"],
                loop=own["loop"],
                security=self._machines.security,
                name=own["name"] or self._machines.launch,
                shutdown_on_close=own["shutdown_on_close"],
            )
        except BaseException:
            # Also when the interrupt came while everything was on its way.
            self._machines.close("failed")
            self.status = Status.closed
            with contextlib.suppress(Exception):
                self._loop_runner.stop()
            raise

    @property
    def launch(self) -> str:
        """The launch's name, for `envboot status`, `logs`, `why` and `terminate`."""
        return self._machines.launch

    @property
    def dashboard_link(self) -> str:
        """The dashboard's URL on this machine, with the token that lets its reader in."""
        if self._dashboard is None:
            return ""
        return self._dashboard.sign(format_dashboard_link("127.0.0.1", self._dashboard.port))

    def _find_dashboard(self) -> tuple[str, int]:
        host = self.scheduler_address.removeprefix("tls://").rpartition(":")[0]
        return host, self.scheduler_info["services"]["dashboard"]

    async def _start(self) -> None:
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_future()
            await self._begin(self._starting)
        try:
            await super()._start()
        except RuntimeError as error:
            if isinstance(error.__cause__, EnvbootError):
                raise error.__cause__ from None
            raise
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
            context = self.security.get_connection_args("client")["ssl_context"]
            self._dashboard = Dashboard(self._find_dashboard, context)
            await self._dashboard.start()
            self._log(f"scheduler answers at {self.scheduler_address} ({self.dashboard_link})")
            await self._compare_versions()

    async def _begin(self, starting: asyncio.Future[Instance]) -> None:
        """Prepare, and start the first machines: workers need not wait for the scheduler."""
        start = time.monotonic()
        try:
            await asyncio.to_thread(self._machines.prepare)
            prepared = self._machines.prepared
            if prepared.scan:
                self._log(f"environment {prepared.scan.interpreter.prefix}")
            digest = prepared.manifest.environment_digest
            self._log(f"environment {digest[7:19]} read in {time.monotonic() - start:.1f} s")
            for note in prepared.notes:
                self._log(f"warning: `{note.subject}`: {note.message}")
            scheduler = await asyncio.to_thread(self._machines.start_scheduler)
        except BaseException:
            starting.cancel()
            self.status = Status.closed
            await asyncio.to_thread(self._machines.close, "failed")
            raise
        many = count(len(self.worker_spec), "worker")
        where = self._provisioner.name
        self._log(f"launch {self.launch}: starting a scheduler and {many} on `{where}`")
        starting.set_result(scheduler)
        for name in self.worker_spec:
            # Whoever takes it is told what goes wrong.
            task = asyncio.ensure_future(self.take(name))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _started(self) -> asyncio.Future[Instance]:
        assert self._starting
        return self._starting

    async def take(self, name: Hashable) -> Instance:
        """Return the machine of a worker, started with those of others if need be."""
        return self._machines.workers.get(name) or await self._taking.ask(name)

    async def give_back(self, instance: Instance) -> None:
        """End the machine of a worker; those of a cluster that closes end together."""
        if self.status == Status.running:
            self._given[instance.name] = instance
            await self._ending.ask(instance.name)

    def _end(self, names: list[str]) -> dict[str, None]:
        self._machines.end([self._given.pop(name) for name in names])
        return dict.fromkeys(names)

    def scale(self, n: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Scale to so many workers, or to as many as have that memory or so many cores."""
        if n and self._machines.is_closed and self._trouble:
            raise self._trouble
        self._failures, self._trouble = 0, None
        return super().scale(n, memory=memory, cores=cores)

    def logs(self, cluster: bool = True, scheduler: bool = True, workers: bool = True) -> Any:
        """Return what cluster, scheduler and workers logged, and what silent machines said last."""
        return self.get_logs(cluster=cluster, scheduler=scheduler, workers=workers)

    async def _get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: Any = True
    ) -> Any:
        if self._machines.is_closed:
            scheduler = workers = False
        try:
            logs = await super()._get_logs(cluster=cluster, scheduler=scheduler, workers=workers)
        except OSError:
            logs = await super()._get_logs(cluster=cluster, scheduler=False, workers=False)
        if workers is True:
            seen = {str(info["name"]) for info in self.scheduler_info["workers"].values()}
            silent = {
                instance.name: name
                for name, instance in list(self._machines.workers.items())
                if str(name) not in seen
            }
            for outcome in await asyncio.to_thread(self._machines.look) if silent else ():
                if outcome.instance.name in silent:
                    text = tell_end(self._provisioner, outcome)
                    logs[f"worker {silent[outcome.instance.name]}"] = Log(text)
        # They are made to be printed.
        for name, log in logs.items():
            logs[name] = Log(show_controls(log))
        return logs

    def sync(self, func: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Send what has changed of your own code to the live machines, in seconds.

        The new layer is fetched and activated on every machine, and workers start again: what
        they hold is computed anew. Packages that are not your own must be the same as before.
        (Dask's clusters have a method of this name for themselves, which a function as first
        argument still calls.)

        Raises:
            UsageError: other packages have changed, too.
            GuestError: a machine could not take it, with its own reason.
        """
        if func is not None:
            return super().sync(func, *args, **kwargs)
        return super().sync(self._send, **kwargs)

    async def _send(self) -> None:
        start = time.monotonic()
        synced, old = await asyncio.to_thread(self._machines.sync)
        if not synced.changed:
            self._log("nothing has changed: machines have this environment already")
            return
        await self.scheduler_comm.run_function(function=forget_layer(), wait=True)
        fresh = set(synced.instances)
        names = {n for n, m in self._machines.workers.items() if m.name in fresh}
        workers = [a for a, w in self.scheduler_info["workers"].items() if w["name"] in names]
        if workers:
            ended = await self.scheduler_comm.restart_workers(
                workers=workers,
                timeout=RESTART,
                on_error="return",
                stimulus_id=f"envboot-sync-{time.time()}",
            )
            if late := [address for address, word in ended.items() if word != "OK"]:
                self._log(f"warning: {name_some(late)} did not start again within {RESTART} s")
        await self._replace([name for name, w in self.workers.items() if w.instance in old])
        many = count(len(synced.instances), "machine")
        self._log(f"{many} synced in {time.monotonic() - start:.1f} s")

    async def _close(self) -> None:
        if self._watching:
            self._watching.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._machines.is_closed and self.scheduler:
            # Nothing answers there: Dask would try until its timeout for connections, 30 s.
            self.scheduler.status, self.shutdown_scheduler = Status.failed, False
        try:
            if self.status == Status.running and not (self._trouble or self._machines.is_closed):
                await self._publish()
            await super()._close()
        except OSError:
            # Where machines have ended, their scheduler cannot be told any more.
            if not self._machines.is_closed:
                raise
        finally:
            if self._dashboard:
                self._dashboard.close()
            # Every machine in one call, whatever became of the scheduler.
            await asyncio.to_thread(self._machines.close)

    async def _publish(self) -> None:
        """Let a machine that had to install publish: the next cluster fetches that."""
        published = asyncio.ensure_future(
            asyncio.to_thread(self._machines.await_publishing, PUBLISH)
        )
        with contextlib.suppress(EnvbootError):
            done, _ = await asyncio.wait([published], timeout=0.5)
            if not done:
                self._log("waiting until the environment is published, once, for the next cluster")
            await published

    def _log(self, log: str) -> None:
        log = show_controls(log)
        self._cluster_manager_logs.append((datetime.now(), log))
        if not self._is_quiet:
            # A notebook shows stderr as if it were an error.
            streams = sys.stdout, sys.stderr  # noqa: TID251
            in_notebook = type(streams[0]).__module__.startswith("ipykernel")
            print(log, file=streams[not in_notebook])


# Written once, in the tables that `envboot launch aws --help` prints.
Cluster.__doc__ = f"{inspect.getdoc(Cluster)}\n{describe_machine_options()}"


def end_at_sigterm() -> None:
    """Let SIGTERM end this process as an exit does, machines and all, where nobody else takes it.

    Schedulers of batch jobs, containers and service managers end programs so.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
