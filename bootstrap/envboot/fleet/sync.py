"""Sends a changed local layer to the running machines of a launch, through the bucket."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envboot.errors import GuestError, UsageError, name_some
from envboot.fleet.base_diff import explain_base
from envboot.fleet.launch_key import check_key
from envboot.fleet.wanted import (
    Wanted,
    check_follows,
    compose,
    find_newest,
    read_launch,
    resend,
    send,
)
from envboot.fleet.watch import LONGEST, POLL, REMOTE_LONGEST, REMOTE_POLL, tell_end
from envboot.publish import upload
from envboot.publish.grants import Auth, Terms, find_reading
from envboot.publish.layout import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.reports import SyncReport
    from envboot.fleet.watch import Fleet
    from envboot.manifest import Manifest
    from envboot.prepare import Prepared
    from envboot.publish.launch_record import LaunchRecord
    from envboot.session import Session
    from envboot.store.protocol import Store

TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What became of a sync.

    `changed` is false where the machines were to have that environment already: then nothing was
    sent. `instances` are the milliseconds from when each saw what is wanted until it was active,
    `gone` those that ended meanwhile.
    """

    launch: str
    number: int
    environment: str
    changed: bool
    restart: bool
    instances: dict[str, int] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


def sync(
    fleet: Fleet,
    prepared: Prepared,
    session: Session,
    *,
    restart: bool,
    seconds: int,
    wait_for: Sequence[str] | None = None,
    timeout: float = TIMEOUT,
    note: Callable[[str], None] = lambda _: None,
) -> Synced:
    """Bring what is prepared to every live instance of a launch, and wait until each has it.

    With `restart` the command of each is started anew, else it goes on with what it has loaded.
    `seconds` is how long signed URLs are to live. Those of `wait_for` are waited for, by name;
    None is every instance that is there when this begins. `note` is told each step.

    Raises:
        UsageError: the launch takes no changes, or its base is another one.
        GuestError: no instance is running, one failed, or was not done after `timeout` seconds.
        StoreError: the bucket refused.
    """
    store, launch, manifest = fleet.store, fleet.launch, prepared.manifest
    record = fleet.about or read_launch(store, launch)
    _check(store, launch, record, manifest)
    names = _find_live(fleet) if wait_for is None else list(wait_for)
    check_key(session, launch)
    newest = find_newest(store, launch, session)
    if changed := not _is_wanted(fleet, newest, manifest, names, restart=restart):
        note("upload")
        terms = Terms(launch=launch, auth=Auth(record.auth), seconds=seconds)
        upload(manifest, prepared.layer_path, store, session, lasting=terms.lasting)
        read = find_reading(store, seconds=seconds, auth=terms.auth)
        keys = Keys(manifest, lasting=terms.lasting)
        newest = send(
            fleet,
            session,
            newest,
            lambda after: replace(after, environment=manifest.environment_digest, restart=restart),
            lambda new: compose(store, new, launch, keys, read),
        )
    instances, gone = _wait(fleet, newest, names, timeout, note, old=not changed)
    return Synced(
        launch=launch,
        number=newest.number,
        environment=newest.environment,
        changed=changed,
        restart=newest.restart,
        instances=instances,
        gone=gone,
    )


def extend(
    fleet: Fleet,
    session: Session,
    end: datetime,
    *,
    timeout: float = TIMEOUT,
    note: Callable[[str], None] = lambda _: None,
) -> Synced:
    """Move the end of every live instance of a launch, and wait until each knows it.

    What they were told to be is told again, so that a machine needs to follow one thing only.

    Raises:
        UsageError: the launch takes no changes.
        GuestError: no instance is running, one failed, or was not done after `timeout` seconds.
        StoreError: the bucket refused, or has lost what the launch runs.
    """
    names = _find_live(fleet)
    note("upload")
    newest = resend(fleet, session, lambda after: replace(after, end=int(end.timestamp())))
    instances, gone = _wait(fleet, newest, names, timeout, note, old=False)
    return Synced(
        launch=fleet.launch,
        number=newest.number,
        environment=newest.environment,
        changed=True,
        restart=False,
        instances=instances,
        gone=gone,
    )


def _check(store: Store, launch: str, record: LaunchRecord, manifest: Manifest) -> None:
    """Refuse what machines could only refuse, each for itself."""
    check_follows(launch, record)
    if record.base != manifest.base_digest:
        raise UsageError(
            f"Cannot sync `{launch}`: more than its projects and loose code has changed",
            causes=explain_base(store, record.environment, manifest),
            hint="Launch anew, or bring the environment back to what it was",
        )


def _find_live(fleet: Fleet) -> list[str]:
    outcomes = fleet.look()
    live = [each.instance.name for each in outcomes if not (each.gone or each.failed)]
    if not live or fleet.end:
        ends = [
            f"`{each.instance.name}` {'ended' if each.gone else 'failed'}" for each in outcomes[:3]
        ]
        raise GuestError(
            f"Cannot sync `{fleet.launch}`: none of its instances is running",
            causes=(tell_end(fleet),) if fleet.end else tuple(ends),
            hint="Launch anew; instances of `local` end with their command",
        )
    return live


def _is_wanted(
    fleet: Fleet, newest: Wanted, manifest: Manifest, names: Sequence[str], *, restart: bool
) -> bool:
    """Tell whether nothing has to be sent: it is wanted already, and on its way or there."""
    if newest.environment != manifest.environment_digest:
        return False
    if newest.number == 0:
        return True
    reports = [_find_report(each, newest) for each in fleet.look() if each.instance.name in names]
    failed = [report for report in reports if report and report.error is not None]
    return not failed and (newest.restart or not restart)


def _find_report(outcome: Outcome, wanted: Wanted) -> SyncReport | None:
    """Return what an instance said of a wanted document, or of one after it."""
    report = outcome.reports.synced
    return report if report and report.number >= wanted.number else None


def _wait(
    fleet: Fleet,
    wanted: Wanted,
    names: Sequence[str],
    timeout: float,
    note: Callable[[str], None],
    *,
    old: bool,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Wait for the instances; returns what each took in milliseconds, and which have ended.

    What is `old` may be what an instance was made with.
    """
    pause, longest = (REMOTE_POLL, REMOTE_LONGEST) if fleet.is_remote else (POLL, LONGEST)
    start = time.monotonic()
    while True:
        outcomes = {each.instance.name: each for each in fleet.look()}
        there: dict[str, int] = {}
        failed: list[str] = []
        for name in names:
            outcome = outcomes.get(name)
            report = _find_report(outcome, wanted) if outcome else None
            if report and report.error is not None:
                failed.append(f"`{name}`: {report.error}")
            elif report:
                there[name] = report.ms
            elif outcome and old and _booted_with(outcome) == wanted.environment:
                there[name] = 0
        gone = [name for name in names if name in outcomes and outcomes[name].gone]
        late = [name for name in names if name not in there and name not in gone]
        if failed:
            raise GuestError(
                f"Failed to sync {len(failed)} of {len(names)} instances",
                causes=tuple(failed[:10]),
                hint="They go on with what they had; mend it, and sync again",
            )
        if not late:
            return there, tuple(name for name in gone if name not in there)
        if time.monotonic() - start > timeout:
            raise GuestError(
                f"Expected every instance to have the change within {timeout:g} s, not yet: "
                + name_some(late),
                causes=tuple(f"`{name}` {_describe(outcomes.get(name))}" for name in late[:3]),
                hint="Give it longer with `--timeout SECONDS`. Machines whose signed URLs have "
                "ended can no longer be reached: launch anew",
            )
        note(f"wait: {len(there)} of {len(names)}")
        time.sleep(pause)
        pause = min(longest, pause * 1.1)


def _booted_with(outcome: Outcome) -> str | None:
    """Return the environment that an instance came up with, None while it has not."""
    return outcome.result.environment if outcome.result else None


def _describe(outcome: Outcome | None) -> str:
    """Say how far an instance is that has not answered."""
    if outcome is None or not outcome.reports:
        return "has reported nothing yet"
    if not outcome.result:
        return "is not ready yet"
    if outcome.reports.command:
        return "has ended its command"
    return "is ready and has not answered"
