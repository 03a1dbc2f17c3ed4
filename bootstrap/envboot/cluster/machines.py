"""The machines of one cluster: prepared once, started in batches, ended together.

Nothing here knows an event loop: every method blocks, and may be called from any thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from envboot.cluster import dask_commands
from envboot.cluster.tls import Authority, compose_secret, make_security
from envboot.errors import EnvbootError, UsageError
from envboot.fleet.healing import heal
from envboot.fleet.history import make_name
from envboot.fleet.launch import check_place
from envboot.fleet.life import format_time
from envboot.fleet.peers import Seat, check_removal
from envboot.fleet.start import Delivery, deliver, start
from envboot.fleet.watch import Fleet
from envboot.publish.grants import Auth, Terms
from envboot.publish.launch_record import Origin, write_end
from envboot.store import open_store
from envboot.userdata import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from envboot.cluster.spec import ClusterSpec
    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.sync import Synced
    from envboot.prepare import Prepared
    from envboot.scan.schema import Problem
    from envboot.store.protocol import Store
    from envboot_provisioners import Instance, Options

_UNITS = {"scheduler": "envboot-dask-scheduler", "worker": "envboot-dask-worker"}


class Machines:
    """The instances of one launch, whose first one runs the scheduler."""

    def __init__(self, spec: ClusterSpec) -> None:
        """Make nothing yet but the keys."""
        self.launch = make_name()
        self._authority = Authority()
        self.security = make_security(self._authority)
        self.scheduler: Instance | None = None
        self.workers: dict[Hashable, Instance] = {}
        self._spec = spec
        self._open = contextlib.ExitStack()
        self._prepared: Prepared | None = None
        self._fleet: Fleet | None = None
        self._first, self._wanted = 0, 1
        self._seen: list[Outcome] = []
        # One start at a time; whoever closes waits for it.
        self._starting = threading.RLock()
        self._closed = False

    @property
    def is_remote(self) -> bool:
        """Whether they are elsewhere: there every question is a request that counts."""
        return self._spec.provisioner.is_remote

    @property
    def is_closed(self) -> bool:
        """Whether all have been ended, for good."""
        return self._closed

    @property
    def prepared(self) -> Prepared:
        """The environment that new machines get."""
        assert self._prepared, "`prepare` comes first"
        return self._prepared

    @property
    def store(self) -> Store:
        """The bucket, open until `close`."""
        assert self._fleet, "`prepare` comes first"
        return self._fleet.store

    def prepare(self) -> None:
        """Read, lock and build the environment.

        Raises:
            EnvbootError: it cannot be read, lacks what Dask needs, or cannot be built.
        """
        spec = self._spec
        loopback = spec.provisioner.guest_loopback or "127.0.0.1"
        store = self._open.enter_context(
            open_store(spec.store, spec.session, guest_loopback=loopback)
        )
        self._fleet = Fleet(
            launch=self.launch,
            store=store,
            provisioner=spec.provisioner,
            command=True,
            is_ours=True,
        )
        needs_role = bool(spec.secrets.managed)
        self._platform = check_place(
            spec.provisioner, store, spec.options, spec.auth, needs_role=needs_role
        )
        if spec.steady != spec.options:
            spec.provisioner.check(spec.steady, by_role=needs_role or spec.auth is Auth.ROLE)
        if spec.secrets.values:
            check_removal(store, self.launch)
        self._prepared = self.read_environment()

    def read_environment(self) -> Prepared:
        """Return the environment as it is now, built."""
        from envboot.manifest import Manifest
        from envboot.package_sync import refuse_differences
        from envboot.prepare import prepare, prepare_manifest
        from envboot.source import resolve_source

        spec = self._spec
        selection = spec.selection
        if spec.source is not None:
            passed_over: list[Problem] = []
            source = resolve_source(spec.source, spec.session, self.store, warn=passed_over.extend)
            if isinstance(source, Manifest):
                prepared = prepare_manifest(
                    source,
                    spec.session,
                    platform=self._platform,
                    host_python=spec.provisioner.host_python,
                    dask=True,
                )
                return replace(prepared, notes=(*passed_over, *prepared.notes))
            selection = replace(selection, lock_file=source.lock_file)
        prepared = prepare(
            selection.placed(self._platform),
            spec.session,
            host_python=spec.provisioner.host_python,
            dask=True,
            path=sys.path,
        )
        refuse_differences(prepared, strict=spec.strict, fail_on=spec.fail_on)
        return prepared

    def start_scheduler(self) -> Instance:
        """Start the machine of the scheduler, whose address is known with it."""

        def seat(instance: Instance) -> Seat:
            address = _address(instance)
            secret = compose_secret(self._authority, "scheduler")
            return Seat(rank=0, words=dask_commands.place_scheduler(address), secret=secret)

        (self.scheduler,) = self._start("scheduler", self._spec.steady, [seat])
        return self.scheduler

    @property
    def contact(self) -> str:
        """Where workers reach the scheduler."""
        assert self.scheduler, "`start_scheduler` comes first"
        return f"tls://{_address(self.scheduler)}:{dask_commands.PORT}"

    def start_workers(self, names: Sequence[Hashable]) -> dict[Hashable, Instance]:
        """Start a machine for each worker, all in one call."""
        contact = self.contact

        def make(name: Hashable) -> Callable[[Instance], Seat]:
            secret = compose_secret(self._authority, "worker", scheduler=contact, name=name)
            return lambda instance: Seat(
                rank=0,
                words=dask_commands.place_worker(contact, name, _address(instance)),
                secret=secret,
            )

        started = self._start("worker", self._spec.options, [make(name) for name in names])
        made = dict(zip(names, started, strict=True))
        self.workers |= made
        return made

    def _start(
        self, role: str, options: Options, seats: Sequence[Callable[[Instance], Seat]]
    ) -> list[Instance]:
        with self._starting:
            self._refuse_closed()
            assert self._fleet, "`prepare` comes first"
            fleet, session = self._fleet, self._spec.session
            first, self._first = self._first, self._first + len(seats)
            delivered = deliver(
                self.prepared.manifest,
                self.prepared.layer_path,
                self.store,
                session,
                self._compose(role, options, first, len(seats)),
                warn=_warn,
            )

            def place(instances: Sequence[Instance]) -> list[Seat]:
                self._refuse_closed()
                return [
                    replace(seat(each), rank=first + number, passing=self._spec.secrets.values)
                    for number, (seat, each) in enumerate(zip(seats, instances, strict=True))
                ]

            before = {instance.name for instance in fleet.instances}
            try:
                return start(delivered, fleet, session, options, seats=place, shared=True)
            except BaseException:
                self.end([each for each in fleet.instances if each.name not in before])
                raise

    def _compose(self, role: str, options: Options, first: int, count: int) -> Delivery:
        """Return how the environment reaches the next machines, and what they run."""
        spec, provisioner = self._spec, self._spec.provisioner
        spot = provisioner.is_interruptible(options)
        hook = "; ".join(filter(None, [dask_commands.RETIRE if spot else "", spec.hook or ""]))
        # Of these machines: a cluster may live longer than any of them.
        life = spec.life.begin(ends_when_done=False)
        return Delivery(
            terms=Terms(
                launch=self.launch,
                auth=spec.auth,
                seconds=spec.seconds,
                seats=first,
                wanted=self._wanted,
            ),
            path=provisioner.render_for(options),
            job=Job(
                command=spec.scheduler if role == "scheduler" else spec.worker,
                environment=spec.environ,
                secrets=spec.secrets.managed,
                life=life,
                watch=bool(hook),
                hook=hook or None,
                unit=_UNITS[role],
                imds=spec.imds,
            ),
            origin=Origin(
                provisioner=provisioner.name,
                count=count,
                command=spec.worker,
                place=provisioner.place(options),
                ends=format_time(life.end) if life.end else "never",
            ),
            chosen=spec.selection.kept(sys.executable, spec.session.folder),
            tries_url=first == 0 and self.is_remote,
        )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError(
                f"Cluster `{self.launch}` is over, and starts no machines any more",
                hint="Make another one",
            )

    def sync(self) -> tuple[Synced, list[Instance]]:
        """Send the environment as it is now to every machine that is ready.

        Machines that start meanwhile wait. Returns what became of it, and the workers' machines
        that were still coming up: they have the old environment.

        Raises:
            UsageError: more has changed than one's own code.
            GuestError: a machine could not take it, or not in time.
        """
        from envboot.fleet.sync import sync

        prepared = self.read_environment()
        with self._starting:
            self._refuse_closed()
            ready = {o.instance.name for o in self.look() if o.result and not o.gone}
            fleet = Fleet(
                launch=self.launch,
                store=self.store,
                provisioner=self._spec.provisioner,
                command=True,
                is_ours=True,
            )
            machines = [*self.workers.values(), *([self.scheduler] if self.scheduler else [])]
            fleet.add([each for each in machines if each.name in ready])
            synced = sync(
                fleet,
                prepared,
                self._spec.session,
                restart=False,
                seconds=self._spec.seconds,
                wait_for=[each.name for each in machines if each.name in ready],
            )
            self._prepared, self._wanted = prepared, synced.number + 1
        return synced, [each for each in self.workers.values() if each.name not in ready]

    def look(self) -> list[Outcome]:
        """Return every machine with what it reported; keys that were taken are deleted."""
        if self._fleet:
            self._seen = self._fleet.look()
        return self._seen

    def end(self, instances: Sequence[Instance]) -> None:
        """End machines; what they have not taken of their keys is deleted."""
        names = {instance.name for instance in instances}
        for name, instance in list(self.workers.items()):
            if instance.name in names:
                del self.workers[name]
        self._spec.provisioner.terminate(instances)
        if self._fleet:
            self._fleet.clear_secrets(names)

    def await_publishing(self, seconds: float) -> bool:
        """Wait until a machine that had to install has published; False after so many seconds.

        Ended before that, the next cluster would have to install again.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            outcomes = [o for o in self.look() if not o.gone]
            # What has refused an archive installs, and publishes nothing in its place.
            installed = [o for o in outcomes if o.source == "install" and not o.refused]
            if not installed or any(o.reports.publish for o in outcomes):
                return True
            time.sleep(1 if self.is_remote else 0.2)
        return False

    def close(self, why: str = "done") -> None:
        """End every machine, and the launch; to be repeated at will.

        Raises:
            ProvisionError: some could not be ended; it names every one of them.
        """
        self._closed = True
        with self._starting:
            self._authority.close()
            if not self._fleet:
                self._open.close()
                return
            fleet, self._fleet = self._fleet, None
            try:
                ours = [self.scheduler] if self.scheduler else []
                ours += list(self.workers.values())
                known = {instance.name for instance in ours}
                ours += [i for i in self._started(fleet) if i.name not in known]
                self._spec.provisioner.terminate(ours)
                if self._first:
                    write_end(fleet.store, self.launch, why)
                    damage = heal(fleet.store, self.prepared.manifest, self._seen)
                    if damage and damage.problem:
                        _warn([damage.problem])
            finally:
                self._open.close()

    def _started(self, fleet: Fleet) -> list[Instance]:
        """Return what the platform has of this launch, in case a start was cut short."""
        if not self._first:
            return []
        with contextlib.suppress(EnvbootError):
            return self._spec.provisioner.instances(fleet.launch)
        return []


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems:
        warnings.warn(f"`{problem.subject}`: {problem.message}", stacklevel=2)


def _address(instance: Instance) -> str:
    """Return by which address the other machines reach one.

    Raises:
        UsageError: it has none.
    """
    if instance.address is None:
        raise UsageError(
            f"Cannot make a cluster of machines that do not reach each other, as `{instance.name}`",
            hint='Take `provisioner="local"`, or a cloud',
        )
    return instance.address
