"""`envboot plan`: what becomes of each package on the way to the machines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootstrap.cli import console
from bootstrap.cli.arguments import selects_environment
from bootstrap.config import cache_folder, read_settings
from bootstrap.documents import plain
from bootstrap.lock.plan import render_plan
from bootstrap.prepare import resolve

if TYPE_CHECKING:
    from bootstrap.selection import Selection


@click.command("plan")
@selects_environment
@click.option(
    "--host-python",
    is_flag=True,
    help="Use this machine's own interpreter, for instances that run on it.",
)
@click.option("--fresh", is_flag=True, help="Look everything up again, whatever was kept.")
@click.option("--all", "show_all", is_flag=True, help="Show what stays the same too.")
@click.option("--json", "as_json", is_flag=True, help="Print the document.")
def command(
    *, selection: Selection, host_python: bool, fresh: bool, show_all: bool, as_json: bool
) -> None:
    """Show per package what will differ on the machines, and why.

    Nothing is built or uploaded. What was looked up is kept for 24 hours.
    """
    with console.task("Scanned and locked", unit="items"):
        resolved = resolve(
            selection,
            host_python=host_python,
            settings=read_settings(Path.cwd()),
            cache=cache_folder(),
            environment=os.environ,
            fresh=fresh,
        )
    console.print_notes(resolved.notes)
    if as_json:
        here, there = resolved.scan, resolved.locked.base
        document = {"here": here.platform, "there": there.platform}
        console.print_json({**document, "packages": [plain(row) for row in resolved.rows]})
    else:
        click.echo(render_plan(resolved.rows, show_all=show_all))
