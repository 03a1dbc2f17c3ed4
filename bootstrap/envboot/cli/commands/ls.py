"""`envboot ls`: what was started from this machine and is still there, or what a bucket knows."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.launch_argument import JSON, complete_launch, find_instances, open_fleet
from envboot.documents import plain
from envboot.fleet.history import read_records
from envboot.fleet.life import parse_time, show_end
from envboot.session import open_session
from envboot.text import one_line, show_size

if TYPE_CHECKING:
    from envboot.fleet.launches import Known
    from envboot.session import Session

MOST = 100
"""Launches of the past whose outcome is looked up, the newest: each is some requests."""


@click.command("ls")
@click.argument("launch", required=False, metavar="[LAUNCH[/RANK]]", shell_complete=complete_launch)
@click.option(
    "--past",
    is_flag=True,
    help="List the launches of the last 30 days instead; with `--store` those that are over, too.",
)
@click.option(
    "--store",
    metavar="URL",
    help="List the launches that this bucket knows instead, wherever they were made.",
)
@JSON
def command(*, launch: str | None, past: bool, store: str | None, as_json: bool) -> None:
    """List the instances that were started from here and not ended yet.

    With `--store` the launches that a bucket knows and that are not over. A launch whose process
    was killed is found so from anywhere, and ended with `envboot terminate LAUNCH --store URL`.

    With LAUNCH the files that its command has made, as far as they are in the bucket: `envboot
    fetch` brings them here.
    """
    session = open_session()
    if launch:
        _list_results(launch, store, session, as_json=as_json)
    elif store:
        _list_bucket(store, session, past=past, as_json=as_json)
    elif past:
        _list_past(session, as_json=as_json)
    else:
        _list_here(session, as_json=as_json)


def _list_past(session: Session, *, as_json: bool) -> None:
    from envboot.fleet.overview import Overview, read_overviews

    records = read_records(session.state)
    known = read_overviews(records[-MOST:], session)
    rows = [(r.launch, r.provisioner, known.get(r.launch, Overview()), r.store) for r in records]
    if as_json:
        members = ("launch", "provisioner", "outcome", "store")
        documents = [(name, maker, seen.outcome or None, url) for name, maker, seen, url in rows]
        console.print_json([dict(zip(members, row, strict=True)) for row in documents])
    elif rows:
        head = ("LAUNCH", "PROVISIONER", "OUTCOME", "STORE")
        cells = [
            (name, maker, one_line(seen.outcome) or "-", url) for name, maker, seen, url in rows
        ]
        console.say("\n".join(console.columns([head, *cells])))


def _list_here(session: Session, *, as_json: bool) -> None:
    from envboot.fleet.overview import Overview, read_overviews

    found = find_instances(session)
    launches = {each.launch for _, instances in found for each in instances}
    records = [record for record in read_records(session.state) if record.launch in launches]
    known = read_overviews(records, session)
    rows = []
    for provisioner, instances in found:
        states = provisioner.states(instances)
        for instance in instances:
            seen = known.get(instance.launch, Overview())
            phase = seen.find_phase(instance, states[instance.name])
            rows.append((provisioner.name, instance, phase.value, states[instance.name], seen.ends))
    if as_json:
        console.print_json(
            [
                {
                    "name": instance.name,
                    "launch": instance.launch,
                    "provisioner": maker,
                    "state": phase,
                    "platform_state": state.word,
                    "ends": ends,
                    "folder": str(instance.folder) if instance.folder else None,
                    "details": dict(instance.details),
                }
                for maker, instance, phase, state, ends in rows
            ]
        )
    elif rows:
        now = datetime.now(timezone.utc)
        head = ("INSTANCE", "LAUNCH", "PROVISIONER", "STATE", "ENDS IN")
        cells = [
            (instance.name, instance.launch, maker, phase, _show_left(ends, now))
            for maker, instance, phase, _, ends in rows
        ]
        console.say("\n".join(console.columns([head, *cells])))


def _show_left(ends: str | None, now: datetime) -> str:
    """Say in how long instances end by themselves."""
    if ends == "never":
        return ends
    end = parse_time(ends)
    return show_end(end, now) if end else "-"


def _list_bucket(url: str, session: Session, *, past: bool, as_json: bool) -> None:
    from envboot.fleet.launches import read_launches
    from envboot.store import open_store

    with open_store(url, session) as bucket:
        launches, left = read_launches(bucket, past=past, reported=as_json)
    if as_json:
        console.print_json([_to_document(known) for known in launches])
        return
    if left:
        console.print_warning(f"{left} older launches are left out")
    if not launches:
        console.say("no launch there" if past else "no launch there that is not over", err=True)
        return
    now = datetime.now(timezone.utc)
    rows = [_row(known, now) for known in launches]
    head = ("LAUNCH", "PROVISIONER", "COUNT", "AGE", "STATE")
    console.say("\n".join(console.columns([head, *rows], right=(2, 3))))
    if not all(known.is_over for known in launches):
        console.say(
            f"\nhint: `envboot status LAUNCH --store={url}` shows how one is, `envboot terminate "
            f"LAUNCH --store={url}` ends it",
            err=True,
        )


def _row(known: Known, now: datetime) -> tuple[str, ...]:
    about, end = known.about, known.end
    return (
        known.launch,
        (about.provisioner if about else None) or "-",
        str(about.count if about and about.count is not None else "-"),
        console.age((now - known.made).total_seconds()),
        f"{end.why if end else 'over'}, at {end.time if end else '-'}"
        if known.is_over
        else f"ends in {_show_left(about.ends if about else None, now)}",
    )


def _to_document(known: Known) -> dict[str, object]:
    about = known.about
    return {
        "launch": known.launch,
        "provisioner": about.provisioner if about else None,
        "count": about.count if about else None,
        "made": known.made.isoformat(),
        "reported": len(known.instances),
        "place": plain(about.place) if about else None,
        "ends": about.ends if about else None,
        "end": plain(known.end),
    }


def _list_results(launch: str, store: str | None, session: Session, *, as_json: bool) -> None:
    from envboot.cli.commands.fetch import choose_rank, split_rank
    from envboot.cli.result_options import print_left
    from envboot.fleet.results import read_results

    name, rank = split_rank(launch)
    with open_fleet(name, store, session) as fleet:
        results = read_results(fleet.store, name)
        fleet.unread.extend(results.malformed)
    indexes = choose_rank(results.indexes, rank, name)
    files = [(index, file) for index in indexes for file in index.files]
    if as_json:
        console.print_json(
            [
                {
                    "path": file.path,
                    "size": file.size,
                    "modified": _show_time(file.mtime, "%Y-%m-%dT%H:%M:%SZ"),
                    "rank": index.rank,
                    "instance": index.instance,
                }
                for index, file in files
            ]
        )
        return
    for index in indexes:
        print_left(index.instance, index.left)
    if not files:
        console.say(f"no results of {name} in the bucket", err=True)
        return
    rows = [
        (
            str(index.rank if index.rank is not None else index.instance),
            show_size(file.size),
            _show_time(file.mtime, "%Y-%m-%d %H:%M:%S"),
            one_line(file.path),
        )
        for index, file in files
    ]
    head = ("RANK", "SIZE", "MODIFIED (UTC)", "PATH")
    console.say("\n".join(console.columns([head, *rows], right=(0, 1))))


def _show_time(nanoseconds: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc).strftime(form)
    except (OverflowError, ValueError, OSError):
        return "-"
