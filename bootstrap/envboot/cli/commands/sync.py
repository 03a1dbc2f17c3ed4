"""`envboot sync`: what changed here, on the running instances of a launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.launch_argument import (
    JSON,
    find_only_running,
    looks_at_launch,
    open_fleet,
    takes_timeout,
)
from envboot.cli.options import selects_environment
from envboot.cli.progress import Screen
from envboot.errors import UsageError
from envboot.fleet.history import Record, read_records
from envboot.session import open_session
from envboot_provisioners import load_provisioner, provisioner_names

if TYPE_CHECKING:
    from envboot.fleet.sync import Synced
    from envboot.fleet.watch import Fleet
    from envboot.prepare import Prepared
    from envboot.selection import Selection
    from envboot.session import Session


@click.command("sync")
@looks_at_launch
@click.option(
    "--restart/--no-restart",
    default=False,
    help="Start the command anew on each instance, once it has the change.",
)
@selects_environment
@takes_timeout("How long the instances may take.", default=60)
@click.option(
    "--expires",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long signed URLs live: `90s`, `15m`, `24h`, at most `7d`.",
)
@JSON
def command(
    *,
    launch: str | None,
    store: str | None,
    restart: bool,
    selection: Selection,
    timeout: float,
    expires: str,
    as_json: bool,
) -> None:
    """Send changed projects and loose code to the running instances of LAUNCH.

    Without LAUNCH, the one that runs. Folder and options of the launch are used again; options
    that are given here come first. What was installed from an index may not have changed. The
    command goes on with what it has loaded, unless `--restart` is given.
    """
    from envboot.duration import parse_duration
    from envboot.fleet.sync import sync

    seconds = parse_duration(expires)
    session = open_session()
    name = launch or find_only_running(session)
    record = next((r for r in reversed(read_records(session.state)) if r.launch == name), None)
    with open_fleet(name, store, session) as fleet, Screen(quiet=as_json) as screen:
        prepared = _prepare(fleet, selection, session, record, screen)
        screen.notes(prepared.notes)
        synced = sync(
            fleet,
            prepared,
            session,
            restart=restart,
            seconds=seconds,
            timeout=timeout,
            note=screen.step,
        )
    if as_json:
        console.print_json(to_document(synced, prepared))
        return
    console.say("\n".join(render(synced)))
    if synced.changed and not synced.restart and fleet.command:
        console.say(
            "\nhint: The command goes on with what it has loaded; `--restart` starts it anew",
            err=True,
        )


def _prepare(
    fleet: Fleet, selection: Selection, session: Session, record: Record | None, screen: Screen
) -> Prepared:
    """Make the environment as the launch did, in its folder."""
    from envboot.prepare import prepare_source
    from envboot.selection.required import starts_dask

    command = (fleet.about and fleet.about.command) or ()
    maker = fleet.about and fleet.about.provisioner
    kept = record.selection if record and record.selection else {}
    return prepare_source(
        selection.over(kept),
        _go_back(session, record),
        fleet.store,
        host_python=maker is not None
        and maker in provisioner_names()
        and load_provisioner(maker, session).host_python,
        command=command,
        dask=starts_dask(command),
        note=screen.step,
    )


def _go_back(session: Session, record: Record | None) -> Session:
    """Return the session in the launch's working directory, with the settings found from there."""
    if record is None or record.folder is None:
        return session
    from envboot.config import read_settings

    folder = Path(record.folder)
    try:
        folder.stat()
    except OSError as error:
        raise UsageError(
            f"Cannot go to `{folder}`, where the launch was made from",
            causes=(error.strerror or str(error),),
        ) from error
    return replace(session, folder=folder, settings=read_settings(folder))


def render(synced: Synced) -> list[str]:
    """Return what people read: one line on all, then one an instance."""
    count = console.count(len(synced.instances), "instance")
    short = synced.environment.removeprefix("sha256:")[:12]
    if not synced.changed:
        title = f"launch {synced.launch}: nothing changed; {count} with environment `{short}`"
        return [title]
    title = f"launch {synced.launch}: {count} with environment `{short}`"
    rows = [(name, f"{ms / 1000:.2f} s") for name, ms in synced.instances.items()]
    rows += [(name, "ended meanwhile") for name in synced.gone]
    return [title, "", *console.columns([("INSTANCE", "ACTIVE AFTER"), *rows])]


def to_document(synced: Synced, prepared: Prepared) -> dict[str, Any]:
    """Return what `--json` prints; times are in seconds."""
    return {
        "launch": synced.launch,
        "number": synced.number,
        "environment": synced.environment,
        "changed": synced.changed,
        "restart": synced.restart,
        "instances": [
            {"name": name, "seconds": ms / 1000} for name, ms in synced.instances.items()
        ],
        "gone": list(synced.gone),
        "notes": [{"subject": note.subject, "message": note.message} for note in prepared.notes],
    }
