"""`envboot fetch`: the files that commands have made, from the bucket into a directory here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.launch_argument import JSON, STORE, complete_launch, open_fleet
from envboot.cli.result_options import (
    INTO,
    fetch_all,
    print_fetched,
    print_left,
    to_document,
)
from envboot.errors import UsageError
from envboot.fleet.history import find_folder
from envboot.session import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.fleet.results import ResultIndex


@click.command("fetch")
@click.argument("launch", metavar="LAUNCH[/RANK]", shell_complete=complete_launch)
@click.argument("paths", nargs=-1, metavar="[PATH…]")
@INTO
@STORE
@JSON
def command(
    *, launch: str, paths: tuple[str, ...], into: Path | None, store: str | None, as_json: bool
) -> None:
    """Fetch the files that the command of LAUNCH has made: all, or those at or below PATH.

    The launch may still run, and may have been made elsewhere. With /RANK only that instance's.
    PATH may be a pattern, as in `'*.csv'`. A file here that has changed, or that was never
    fetched, is not replaced: what arrives is put beside it. Run it again after it was interrupted,
    and it goes on.
    """
    from envboot.fleet.homecoming import Home, raise_failed, refuse_unknown
    from envboot.fleet.results import read_results

    session = open_session()
    name, rank = split_rank(launch)
    with open_fleet(name, store, session) as fleet:
        results = read_results(fleet.store, name)
        indexes = choose_rank(results.indexes, rank, name)
        refuse_unknown(indexes, paths)
        home = Home(
            launch=name,
            session=session,
            is_single=max(fleet.count, len(results.indexes)) <= 1,
            into=into,
            made_in=find_folder(session.state, name),
        )
        found = fetch_all(fleet.store, home, indexes, paths)
        fleet.unread.extend(results.malformed)
    if as_json:
        console.print_json(to_document(found))
    else:
        print_fetched(found, session, err=False)
        for index in indexes:
            print_left(index.instance, index.left)
        if not indexes:
            console.say(f"no results of {name} in the bucket", err=True)
    raise_failed(found)


def split_rank(text: str) -> tuple[str, int | None]:
    """Read `LAUNCH[/RANK]`; raises UsageError."""
    name, separator, rank = text.partition("/")
    if separator and not (rank.isascii() and rank.isdigit()):
        raise UsageError(
            f"Expected LAUNCH or LAUNCH/RANK, found `{text}`",
            hint="Ranks are numbers from 0 on; `envboot ls LAUNCH` shows them",
        )
    return name, int(rank) if rank else None


def choose_rank(indexes: list[ResultIndex], rank: int | None, launch: str) -> list[ResultIndex]:
    """Return the results of one rank, all without one; raises UsageError where it has none."""
    found = [index for index in indexes if rank is None or index.rank == rank]
    if rank is not None and not found:
        raise UsageError(
            f"Rank {rank} of `{launch}` has no results",
            hint=f"`envboot ls {launch}` lists the results that there are",
        )
    return found
