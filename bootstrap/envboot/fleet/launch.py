"""The main job: scan, lock, publish, render, start, wait, run; every step timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from envboot.command_secrets import Secrets, refuse_places
from envboot.errors import EnvbootError, UsageError, name_some
from envboot.fleet.finish import Finisher, finish
from envboot.fleet.history import make_name
from envboot.fleet.interrupting import Interruptible, wait_done
from envboot.fleet.known_files import write_sent
from envboot.fleet.life import Lifetime, check_urls, format_time
from envboot.fleet.peers import Seat, check_removal
from envboot.fleet.start import Delivery, deliver, start
from envboot.fleet.watch import Fleet
from envboot.prepare import Prepared, prepare_source
from envboot.publish.grants import Auth, Terms
from envboot.publish.launch_record import Origin, write_end
from envboot.selection import Selection
from envboot.userdata import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from envboot.fleet.outcomes import Outcome
    from envboot.publish.bases import PublishedBase
    from envboot.scan.schema import Problem
    from envboot.session import Session
    from envboot.store.protocol import Expiry, Store
    from envboot.userdata.contents import Imds
    from envboot.userdata.parts import Part
    from envboot.userdata.result_rules import ResultRules
    from envboot_provisioners import Instance, Options, Provisioner


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What the user wants launched, and for how long (`life`) at most.

    With `dask` the environment must have all that machines of Dask need.

    `timeout` are the seconds that instances may take, the command included; with None they must
    be ready within half an hour, and the command may take any time. `hook` is a shell command
    that an instance runs when its platform is about to take it back. `imds` is as in `Job`.
    `secrets` are variables of the command beside `environment`, which is part of user-data.
    `seconds` is how long signed URLs live; None is as long as machines do, seven days at most.
    `output` says which files of the command go to the bucket, None for none.
    `stdin` returns what its commands read on standard input. With `detach` nobody waits here.
    """

    selection: Selection = field(default_factory=Selection)
    count: int = 1
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=Secrets)
    dask: bool = False
    parts: tuple[Part, ...] = ()
    options: Options = field(default_factory=dict)
    timeout: float | None = None
    life: Lifetime = field(default_factory=Lifetime)
    seconds: int | None = None
    auth: Auth = Auth.URLS
    hook: str | None = None
    imds: Imds | None = None
    output: ResultRules | None = None
    fresh: bool = False
    keep: bool = False
    stdin: Callable[[], bytes] | None = None
    detach: bool = False

    @property
    def keeps(self) -> bool:
        """Whether machines stay when all is done."""
        return self.keep or not self.command


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """A finished launch: client steps in seconds, and every instance's outcome.

    `expiry` is that of the signed URLs, None where instances asked as their role. `notes` say what
    does not arrive as it is, and what the bucket has that is not used. `damage` is what was wrong
    with the published archive, and whether it could be removed. `interrupted` says that Ctrl-C
    ended the command.
    """

    launch: str
    prepared: Prepared
    steps: dict[str, float]
    outcomes: tuple[Outcome, ...]
    kept: bool
    expiry: Expiry | None
    notes: tuple[Problem, ...] = ()
    damage: PublishedBase | None = None
    interrupted: bool = False


class Watcher(Interruptible, Finisher, Protocol):
    """Is told what goes on while a launch runs: the steps scan, lock, build, upload, … too."""

    def begins(self, fleet: Fleet) -> None:
        """Instances are about to be started."""


def launch(
    provisioner: Provisioner,
    store: Store,
    order: Order,
    session: Session,
    watcher: Watcher,
) -> Launched:
    """Bring the environment up on instances, run the command on each and wait for it.

    Instances are ended when the command has ended and the archive is published; without a
    command, or with `keep`, they stay. Whatever fails, nothing that was started is left running.
    With `detach` it returns as soon as the instances were asked for, without any outcome.

    Raises:
        UsageError: the provisioner's instances are of another platform than the one wanted.
        StoreError: the bucket is not there, or refuses.
        GuestError: an instance did not become ready; its own reason is in the causes.
        CommandError: the command failed on an instance.
    """
    name = make_name()
    clock = Clock(watcher)
    refuse_places(order.secrets, owner=f"`{provisioner.name}`", cloud=provisioner.role)
    platform = check_place(
        provisioner,
        store,
        order.options,
        order.auth,
        needs_role=bool(order.secrets.managed),
    )
    if order.auth is Auth.URLS and provisioner.is_remote:
        short = check_urls(store, order.seconds or order.life.seconds, order.life)
    else:
        short = None
    if order.secrets.values:
        check_removal(store, name)
    selection = order.selection.placed(platform)
    prepared = prepare_source(
        selection,
        session,
        store,
        host_python=provisioner.host_python,
        command=order.command,
        dask=order.dask,
        fresh=order.fresh,
        note=clock.begin,
    )
    notes = [*prepared.notes, *([short] if short else [])]
    watcher.notes(notes)

    def warn(found: Sequence[Problem]) -> None:
        notes.extend(found)
        watcher.notes(found)

    keep = order.keeps
    fleet = Fleet(
        launch=name,
        store=store,
        provisioner=provisioner,
        count=order.count,
        command=bool(order.command),
        output=bool(order.command and order.output),
        is_ours=True,
    )
    if fleet.output:
        write_sent(session.state, name, prepared.layer.code if prepared.layer else None)
    delivery = _compose(
        order, fleet, prepared, selection.kept(_find_python(prepared), session.folder)
    )
    fleet.ends = delivery.origin.ends
    delivered = deliver(
        prepared.manifest,
        prepared.layer_path,
        store,
        session,
        delivery,
        note=clock.begin,
        warn=warn,
    )
    instances: list[Instance] | None = None
    try:
        watcher.begins(fleet)
        clock.begin("start")
        instances = start(delivered, fleet, session, order.options, seats=_seat_with(order.secrets))
        outcomes: list[Outcome] = []
        damage, interrupted = None, False
        if not order.detach:
            clock.begin("wait")
            outcomes, interrupted = wait_done(
                fleet, session, timeout=order.timeout, watcher=watcher
            )
            clock.end()
            if interrupted and not keep:
                # The first note counts.
                write_end(store, name, "interrupted")
            damage = finish(
                fleet,
                outcomes,
                prepared=prepared,
                keep=keep,
                watcher=watcher,
                warn=warn,
                hint=_hint(outcomes, keep=order.keep),
            )
    except BaseException as error:
        # Also when the interrupt came while they were being ended.
        watcher.step("end")
        if instances is None and not isinstance(error, EnvbootError):
            # It came before the provisioner could return them; one that fails has ended its own.
            instances = provisioner.instances(name)
        elif instances is None:
            # They could not be told who they are.
            instances = fleet.instances
        if not (order.keep and fleet.is_remote):
            provisioner.terminate(instances or [], keep=order.keep)
            watcher.ended(fleet, instances or [])
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            write_end(store, name, why)
        raise
    return Launched(
        launch=name,
        prepared=prepared,
        steps=clock.steps,
        outcomes=tuple(outcomes),
        kept=keep,
        expiry=delivered.expiry,
        notes=tuple(notes),
        damage=damage,
        interrupted=interrupted,
    )


def _compose(order: Order, fleet: Fleet, prepared: Prepared, chosen: Mapping[str, Any]) -> Delivery:
    """Return how what was prepared reaches the machines of this launch."""
    provisioner = fleet.provisioner
    assert provisioner
    life = order.life.begin(ends_when_done=not order.keeps)
    return Delivery(
        terms=Terms(
            launch=fleet.launch,
            auth=order.auth,
            seconds=order.seconds or order.life.seconds,
            # Else URLs live for reports: what a boot reads is read soon.
            boots_later=order.seconds is not None,
            seats=0 if order.command else None,
            wanted=1,
        ),
        path=provisioner.render_for(order.options),
        job=Job(
            command=prepared.command,
            environment=order.environment,
            secrets=order.secrets.managed,
            life=life,
            watch=bool(order.hook) or provisioner.is_interruptible(order.options),
            hook=order.hook,
            imds=order.imds,
            output=order.output,
        ),
        parts=order.parts,
        origin=Origin(
            provisioner=provisioner.name,
            count=order.count,
            command=order.command,
            place=provisioner.place(order.options),
            ends=format_time(life.end) if life.end else "never",
            keep=order.keep,
            output=fleet.output or None,
        ),
        stdin=order.stdin() if order.stdin and order.command else b"",
        chosen=chosen,
        tries_url=fleet.is_remote,
    )


def _seat_with(secrets: Secrets) -> Callable[[Sequence[Instance]], list[Seat]] | None:
    """Return what gives every instance these secrets, None where there are none."""
    if not secrets.values:
        return None
    return lambda instances: [
        Seat(rank, passing=secrets.values) for rank, _ in enumerate(instances)
    ]


def _find_python(prepared: Prepared) -> str | None:
    """Return the interpreter by its path: what is active may be another at a later sync."""
    return prepared.scan.interpreter.executable if prepared.scan else None


def check_place(
    provisioner: Provisioner,
    store: Store,
    options: Options,
    auth: Auth,
    *,
    needs_role: bool = False,
) -> str | None:
    """Refuse what could never start; returns the one platform that such instances can be.

    With `needs_role` instances must have a role, however they use the bucket.

    Raises:
        UsageError: instances have no role, or the bucket does not know it.
        StoreError: the bucket is not there, or nobody signs.
        ProvisionError: the platform has no such instances.
    """
    if auth is Auth.ROLE and provisioner.role is None:
        raise UsageError(
            f"Cannot launch by role: instances of `{provisioner.name}` have none",
            hint="Leave `--auth` out",
        )
    access = store.role_access() if auth is Auth.ROLE else None
    if access and access.kind != provisioner.role:
        raise UsageError(
            f"Cannot launch by role: bucket `{store.url}` does not know those of "
            f"`{provisioner.name}`",
            hint="Take a bucket of the same cloud, or signed URLs: `--auth urls`",
        )
    if provisioner.is_remote:
        # A bucket that is not there, or that nobody signs for, is no use to scan anything for.
        store.check(signs=auth is Auth.URLS)
    return provisioner.check(options, by_role=needs_role or auth is Auth.ROLE)


def _hint(outcomes: list[Outcome], *, keep: bool) -> str:
    """Say where instances that failed can be looked into."""
    if not keep:
        return "Add `--keep` to leave them for a look inside"
    failed = [outcome.instance for outcome in outcomes if outcome.failed]
    return f"They are kept: {name_some([str(i.folder or i.name) for i in failed])}"


class Clock:
    """Times the steps on this machine, in seconds."""

    def __init__(self, watcher: Watcher) -> None:
        self.steps: dict[str, float] = {}
        self._watcher = watcher
        self._current: tuple[str, float] | None = None

    def begin(self, name: str) -> None:
        """End the step before and begin this one."""
        self.end()
        self._current = name, time.monotonic()
        self._watcher.step(name)

    def end(self) -> None:
        """End the current step."""
        if self._current:
            name, start = self._current
            self.steps[name] = time.monotonic() - start
            self._current = None
