"""The main job: scan, lock, publish, render, start, wait, run; every step timed."""

from __future__ import annotations

import json
import secrets
import signal
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from bootstrap.errors import CommandError, EnvbootError, GuestError, UsageError, name_some
from bootstrap.prepare import Prepared, prepare
from bootstrap.publish import publish, read_reports
from bootstrap.selection import Selection
from bootstrap.userdata import LaunchPath, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bootstrap.config import Settings
    from bootstrap.parts import Part
    from bootstrap.scan.document import Problem
    from bootstrap.store import Store
    from provisioners import Instance, Provisioner

POLL = 0.05
"""Seconds between two looks at the reports at first; the pause grows to two seconds."""
READY = 1800
"""Seconds within which instances must be ready where no time-out is given."""
EXIT_CODES = {
    126: "126 says that the program is there and cannot be executed",
    127: "127 says that the program is neither in the environment nor on the instance's PATH",
    137: "137 says that the program was killed, mostly for want of memory",
    -signal.SIGKILL: "What is killed so is mostly killed for want of memory",
}
"""What shells mean by an exit code (POSIX.1-2017, 2.8.2); below zero it is a signal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What the user wants launched; `seconds` is how long the signed URLs live.

    With `dask` the environment must have all that machines of Dask need.

    `timeout` are the seconds that instances may take, the command included; with None they must
    be ready within half an hour, and the command may take any time.
    """

    selection: Selection = field(default_factory=Selection)
    count: int = 1
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    dask: bool = False
    parts: tuple[Part, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None
    seconds: int = 24 * 3600
    fresh: bool = False
    keep: bool = False


@dataclass(kw_only=True, slots=True)
class Outcome:
    """How one instance fared: its reports by event."""

    instance: Instance
    reports: dict[str, Any] = field(default_factory=dict)
    gone: bool = False

    @property
    def result(self) -> dict[str, Any]:
        """The agent's result, empty while there is none."""
        found: dict[str, Any] = self.reports.get("result", {})
        return found

    @property
    def failed(self) -> bool:
        """Whether it will never be ready."""
        return self.result.get("outcome") == "failed" or (self.gone and not self.result)


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """A finished launch: client steps in seconds, and every instance's outcome."""

    launch: str
    prepared: Prepared
    steps: dict[str, float]
    outcomes: tuple[Outcome, ...]
    kept: bool


class Watcher(Protocol):
    """Is told what goes on while a launch runs."""

    def step(self, name: str) -> None:
        """A step on this machine begins: scan, lock, build, upload, render, start, wait, end."""

    def notes(self, notes: Sequence[Problem]) -> None:
        """What will not arrive as it is, told before anything is uploaded or started."""

    def progress(self, outcomes: Sequence[Outcome]) -> None:
        """Instances were looked at once more."""


def launch(
    provisioner: Provisioner,
    store: Store,
    order: Order,
    *,
    settings: Settings,
    cache: Path,
    environment: Mapping[str, str],
    watcher: Watcher,
) -> Launched:
    """Bring the environment up on instances, run the command on each and wait for it.

    Instances are ended when the command has ended and the archive is published; without a
    command, or with `keep`, they stay. Whatever fails, nothing that was started is left running.

    Raises:
        UsageError: the provisioner's instances are of another platform than the one wanted.
        GuestError: an instance did not become ready; its own reason is in the causes.
        CommandError: the command failed on an instance.
    """
    name = f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    clock = Clock(watcher)
    provisioner.check(order.options)
    prepared = prepare(
        _place(provisioner, order.selection),
        host_python=provisioner.host_python,
        settings=settings,
        cache=cache,
        environment=environment,
        command=order.command,
        dask=order.dask,
        fresh=order.fresh,
        note=clock.begin,
    )
    watcher.notes(prepared.notes)
    clock.begin("upload")
    grants = publish(
        prepared.manifest,
        prepared.layer_path,
        store,
        launch=name,
        seconds=order.seconds,
        cache=cache,
        environment=environment,
    )
    clock.begin("render")
    document = render(
        prepared.manifest,
        launch_path=LaunchPath(provisioner.render_for),
        grants=grants,
        command=prepared.command,
        environment=order.environment,
        parts=order.parts,
    )
    from provisioners import Request

    request = Request(
        launch=name,
        count=order.count,
        user_data=document.payload,
        fixed_prefix=prepared.manifest.base.python.source == "conda",
        options=order.options,
    )
    keep = order.keep or not order.command
    instances: list[Instance] | None = None
    try:
        clock.begin("start")
        instances = provisioner.start(request)
        clock.begin("wait")
        outcomes = _wait(provisioner, store, name, instances, order, watcher)
        clock.end()
        _raise_failures(provisioner, outcomes, keep=order.keep)
        if not keep:
            watcher.step("end")
            provisioner.terminate(instances)
    except BaseException:
        # Also when the interrupt came while they were being ended.
        watcher.step("end")
        provisioner.terminate(_started(provisioner, name, instances), keep=order.keep)
        raise
    return Launched(
        launch=name,
        prepared=prepared,
        steps=clock.steps,
        outcomes=tuple(outcomes),
        kept=keep,
    )


def _place(provisioner: Provisioner, selection: Selection) -> Selection:
    """Return the selection for the platform of the provisioner's instances."""
    there = provisioner.platform
    if there is None:
        return selection
    if selection.platform not in (None, there):
        raise UsageError(
            f"Cannot launch for `{selection.platform}`: instances of `{provisioner.name}` "
            f"are `{there}` on this machine",
            hint="Leave `--platform` out, or choose another provisioner",
        )
    return replace(selection, platform=there)


def _started(
    provisioner: Provisioner, launch: str, instances: list[Instance] | None
) -> list[Instance]:
    """Return what to end, also where an interrupt came before `start` could return it."""
    if instances is not None:
        return instances
    return [i for i in provisioner.instances() if i.name.rpartition("-")[0] == launch]


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


def _wait(
    provisioner: Provisioner,
    store: Store,
    launch: str,
    instances: list[Instance],
    order: Order,
    watcher: Watcher,
) -> list[Outcome]:
    """Look at the reports until every instance has done all that it was started for."""
    outcomes = {instance.name: Outcome(instance=instance) for instance in instances}
    known: dict[str, Any] = {}
    start, pause = time.monotonic(), POLL
    while True:
        # Asked first: what an instance reported before it ended is in the bucket by then.
        running = {name: provisioner.is_running(o.instance) for name, o in outcomes.items()}
        for name, reports in read_reports(store, launch, known).items():
            if name in outcomes:
                outcomes[name].reports = reports
        for name, outcome in outcomes.items():
            outcome.gone = not running[name]
        watcher.progress(list(outcomes.values()))
        if all(_is_done(outcome, order) for outcome in outcomes.values()):
            return list(outcomes.values())
        if time.monotonic() - start > (READY if order.timeout is None else order.timeout):
            late = [outcome for outcome in outcomes.values() if _is_late(outcome, order)]
            if late:
                raise _refuse_late(provisioner, late, order)
        time.sleep(pause)
        pause = min(2.0, pause * 1.1)


def _is_done(outcome: Outcome, order: Order) -> bool:
    if outcome.gone or outcome.failed:
        return True
    wanted = ["result"] + ["command"] * bool(order.command)
    if outcome.result.get("source") == "install":
        wanted.append("publish")
    return all(event in outcome.reports for event in wanted)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _is_late(outcome: Outcome, order: Order) -> bool:
    """Whether it should be further by now: ready, or with a time-out done."""
    ready = order.timeout is None and bool(outcome.result)
    return not (ready or _is_done(outcome, order))


def _raise_failures(provisioner: Provisioner, outcomes: list[Outcome], *, keep: bool) -> None:
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        names = name_some([outcome.instance.name for outcome in failed])
        raise GuestError(
            f"Failed to bring up {len(failed)} of {len(outcomes)} instances: {names}",
            causes=tuple(_reason(provisioner, outcome) for outcome in failed[:3]),
            hint=_where(failed) if keep else "Add `--keep` to leave them for a look inside",
        )


def raise_command_failures(launched: Launched) -> None:
    """Raise CommandError when the command failed, or never ended, on some instances."""
    failed = []
    for outcome in launched.outcomes:
        command = outcome.reports.get("command")
        if command is None:
            failed.append(f"`{outcome.instance.name}` ended before the command did")
        elif command["exit_code"]:
            failed.append(f"`{outcome.instance.name}` {_describe_end(command['exit_code'])}")
    if failed:
        codes = {o.reports.get("command", {}).get("exit_code") for o in launched.outcomes}
        raise CommandError(
            f"The command failed on {len(failed)} of {len(launched.outcomes)} instances",
            causes=tuple(failed[:10]),
            hint=EXIT_CODES.get(codes.pop()) if len(codes) == 1 else None,
        )


def _refuse_late(provisioner: Provisioner, late: list[Outcome], order: Order) -> EnvbootError:
    names = name_some([outcome.instance.name for outcome in late])
    if all(outcome.result for outcome in late):
        return CommandError(
            f"The command was still running after {order.timeout:g} s on {names}",
            hint="Give it longer with `--timeout SECONDS`, or leave the option out",
        )
    wanted, limit = ("ready", READY) if order.timeout is None else ("done", order.timeout)
    return GuestError(
        f"Expected every instance to be {wanted} within {limit:g} s, not yet: {names}",
        causes=tuple(_reason(provisioner, outcome) for outcome in late[:3]),
        hint="Give it longer with `--timeout SECONDS`",
    )


def _where(outcomes: list[Outcome]) -> str:
    return f"They are kept in {name_some([str(o.instance.folder or '?') for o in outcomes])}"


def _reason(provisioner: Provisioner, outcome: Outcome) -> str:
    """Say in the instance's own words why it is not ready."""
    name, errors = outcome.instance.name, outcome.result.get("errors")
    if errors:
        lines = [f"`{name}` {error['stage']}: {error['error']}" for error in errors]
        return "\n".join(lines).replace("\n", "\n    ")
    lines = provisioner.console(outcome.instance).strip().splitlines()[-5:]
    seen = name_some(list(outcome.reports)) if outcome.reports else "nothing"
    if not lines:
        return f"`{name}` reported {seen} and wrote nothing on its console"
    return "\n    ".join([f"`{name}` reported {seen}; its console ends with", *lines])


def find_progress(outcome: Outcome) -> tuple[str, int, int]:
    """Return stage, bytes done and total of an instance, as far as they can be seen from here."""
    root = outcome.instance.root
    if root and not outcome.result:
        try:
            status = json.loads((root / "run/envboot/status.json").read_text("utf-8"))
            return status["stage"], status["done"], status["total"]
        except (OSError, ValueError):
            pass
    if "publish" in outcome.reports:
        return "not published" if "error" in outcome.reports["publish"] else "published", 0, 0
    if outcome.failed:
        return "failed", 0, 0
    for event, stage in (("command", "done"), ("result", "ready"), ("started", "started")):
        if event in outcome.reports:
            return stage, 0, 0
    return "starting", 0, 0
