"""`envboot plan`: what becomes of each package on the way to the machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.options import FRESH, HOST_PYTHON, selects_environment
from envboot.documents import plain
from envboot.lock.comparison import compare, mark_replaced, render_plan
from envboot.prepare import build, resolve
from envboot.scan.sizes import describe_sizes, measure
from envboot.selection.strict import refuse_differing
from envboot.session import open_session

if TYPE_CHECKING:
    from envboot.layer.loose_files import LooseFolder
    from envboot.lock.comparison import Row
    from envboot.selection import Selection


@click.command("plan")
@selects_environment
@HOST_PYTHON
@FRESH
@click.option("--all", "show_all", is_flag=True, help="Show what stays the same too.")
@click.option("--json", "as_json", is_flag=True, help="Print the document.")
def command(
    *, selection: Selection, host_python: bool, fresh: bool, show_all: bool, as_json: bool
) -> None:
    """Show per package what will differ on the machines, and why.

    Projects are built, as a launch builds them, to compare them with what is installed. Nothing
    is uploaded. What was looked up is kept for 24 hours.
    """
    session = open_session()
    with console.task("Scanned, locked and built", unit="items"):
        resolved = resolve(selection, session, host_python=host_python, fresh=fresh)
        parts = build(resolved, selection, session)
    rows = (
        *mark_replaced(resolved.rows, parts.replaced),
        *(_row(folder) for folder in parts.code.folders),
    )
    notes = (*resolved.notes, *parts.notes)
    console.print_notes(notes)
    if as_json:
        here, there = resolved.scan, resolved.locked.base
        document: dict[str, Any] = {"prefix": here.interpreter.prefix}
        document |= {"here": here.platform, "there": there.platform}
        document["size"] = measure(here)
        document |= {"packages": [plain(row) for row in rows]}
        console.print_json({**document, "notes": [plain(note) for note in notes]})
    else:
        console.say(render_plan(rows, show_all=show_all))
        if resolved.scan.distributions or resolved.scan.conda:
            # Of a lock file's packages nothing is on this disk.
            size, largest = describe_sizes(measure(resolved.scan))
            console.say(f"{size}; largest: {largest}" if largest else size)
    if selection.strict or session.settings.strict:
        refuse_differing(rows)


def _row(folder: LooseFolder) -> Row:
    size = console.count_files([file.size for file in folder.files])
    return compare(folder.loose.folder, "layer", size, size)
