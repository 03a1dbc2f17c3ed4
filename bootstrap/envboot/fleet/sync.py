"""Sends a changed local layer to the running machines of a launch, through the bucket."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envboot.agent import wire
from envboot.documents import Node, parse_json
from envboot.errors import DocumentError, GuestError, UsageError, name_some
from envboot.fleet.base_diff import explain_base
from envboot.fleet.launch_key import check_key, sign
from envboot.fleet.watch import LONGEST, POLL, REMOTE_LONGEST, REMOTE_POLL, tell_end
from envboot.manifest import parse_manifest
from envboot.publish import upload
from envboot.publish.grants import Auth, Terms, find_reading
from envboot.publish.launch_record import MOST, read_record
from envboot.publish.layout import Keys, key_wanted
from envboot.store.protocol import DAY, MalformedError

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
_NUMBER = re.compile(r".*/wanted-(\d+)\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a launch wants of its machines: number 0 is what it was made with.

    `end` (seconds since 1970) is when they end by themselves, where that was moved. With
    `interrupt` the command is told to end as by Ctrl-C, once.
    """

    number: int
    environment: str
    restart: bool = False
    end: int | None = None
    interrupt: bool = False


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


def find_newest(store: Store, launch: str, session: Session) -> Wanted:
    """Return what a launch wants now; machines that are started later follow from the next number.

    Raises:
        UsageError: the bucket does not know the launch, or nothing can be signed for it here.
        StoreError: the bucket cannot be read; `MalformedError` where somebody else has written
            what is wanted: machines never get past that.
    """
    found = (_NUMBER.fullmatch(stat.key) for stat in store.list(f"launches/{launch}/wanted-"))
    number = max((int(match[1]) for match in found if match), default=0)
    data = store.read(key_wanted(launch, number), most=MOST) if number else None
    if data is not None:
        return _read_wanted(data, launch, number, session)
    return Wanted(number=number, environment=_read_launch(store, launch).environment)


def _read_wanted(data: bytes, launch: str, number: int, session: Session) -> Wanted:
    key = key_wanted(launch, number)
    try:
        document = parse_json(data, "wanted document")
        node = Node(document, "")
        found = Wanted(
            number=number,
            environment=node.take("digest", str),
            restart=node.take("restart", bool),
            end=node.take("end", int) if node.has("end") else None,
        )
        signature = node.take("signature", str)
    except DocumentError as error:
        raise MalformedError(f"Cannot read `{key}`", causes=(error.message,)) from error
    del document["signature"]
    # A message has one signature with this key.
    if signature != sign(session, launch, wire.canonical(document)):
        raise MalformedError(
            f"Cannot sync `{launch}`: `{key}` was not signed with its key",
            causes=("Somebody else may write to the bucket; machines refuse what it says",),
            hint="Launch again, and see who may write there",
        )
    return found


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
    record = fleet.about or _read_launch(store, launch)
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
        newest = _send(
            fleet,
            session,
            newest,
            lambda after: replace(after, environment=manifest.environment_digest, restart=restart),
            lambda new: _compose(store, new, launch, keys, read),
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


def resend(fleet: Fleet, session: Session, change: Callable[[Wanted], Wanted]) -> Wanted:
    """Want of machines what is wanted of them already, and what `change` adds to it.

    Raises:
        UsageError: the launch takes no changes, or nothing can be signed for it here.
        StoreError: the bucket refused, or has lost what the launch runs.
    """
    store, launch = fleet.store, fleet.launch
    record = fleet.about or _read_launch(store, launch)
    _check_follows(launch, record)
    check_key(session, launch)
    newest = find_newest(store, launch, session)
    data = store.read(f"environments/{newest.environment.removeprefix('sha256:')}.json")
    if data is None:
        raise MalformedError(f"Environment `{newest.environment}` is not in the bucket any more")
    manifest = parse_manifest(data)
    terms = Terms(launch=launch, auth=Auth(record.auth), seconds=DAY)
    keys = Keys(manifest, lasting=terms.lasting)
    read = find_reading(store, seconds=terms.seconds, auth=terms.auth)
    return _send(
        fleet,
        session,
        newest,
        lambda after: change(replace(after, restart=False)),
        lambda new: _compose(store, new, launch, keys, read),
    )


def _send(
    fleet: Fleet,
    session: Session,
    newest: Wanted,
    change: Callable[[Wanted], Wanted],
    compose: Callable[[Wanted], dict[str, Any]],
) -> Wanted:
    """Put what is wanted into the bucket, after all that others have put there; returns it."""
    store, launch = fleet.store, fleet.launch
    while True:
        new = replace(change(newest), number=newest.number + 1)
        document = compose(new)
        document["signature"] = sign(session, launch, wire.canonical(document))
        if store.create(key_wanted(launch, new.number), wire.canonical(document)):
            return new
        # Another sync was faster: ours comes after it.
        found = find_newest(store, launch, session)
        newest = replace(newest, number=max(new.number, found.number), end=found.end)


def _read_launch(store: Store, launch: str) -> LaunchRecord:
    record = read_record(store, launch)
    if record is None:
        raise UsageError(
            f"Launch `{launch}` is not in `{store.url}` any more",
            hint="A bucket keeps what it knows of a launch for a day; launch anew",
        )
    return record


def _check(store: Store, launch: str, record: LaunchRecord, manifest: Manifest) -> None:
    """Refuse what machines could only refuse, each for itself."""
    _check_follows(launch, record)
    if record.base != manifest.base_digest:
        raise UsageError(
            f"Cannot sync `{launch}`: more than its projects and loose code has changed",
            causes=explain_base(store, record.environment, manifest),
            hint="Launch anew, or bring the environment back to what it was",
        )


def _check_follows(launch: str, record: LaunchRecord) -> None:
    """Refuse a launch whose machines look for nothing."""
    if record.auth not in {auth.value for auth in Auth}:
        raise UsageError(
            f"Cannot sync `{launch}`: its machines do not look for changes",
            hint="Those of `envboot launch` do, if `ssh-keygen` is installed where you launch: "
            "launch again",
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


def _compose(
    store: Store,
    wanted: Wanted,
    launch: str,
    keys: Keys,
    read: Callable[[str], str],
) -> dict[str, Any]:
    """Return the document that says what is wanted, not signed yet."""

    def grant(key: str) -> dict[str, str]:
        url = read(key)
        if store.url.startswith("file:"):
            # The server that machines know is the launching process's, not ours.
            parts = urlsplit(url)
            url = f"{parts.path}?{parts.query}"
        return {"get": url}

    return {
        "number": wanted.number,
        "digest": wanted.environment,
        "manifest": grant(keys.environment),
        **({"layer": grant(keys.layer)} if keys.layer else {}),
        "restart": wanted.restart,
        **({} if wanted.end is None else {"end": wanted.end}),
        **({"interrupt": True} if wanted.interrupt else {}),
        "next": grant(key_wanted(launch, wanted.number + 1)),
    }


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
