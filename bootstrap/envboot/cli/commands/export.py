"""`envboot export`: the exact packages of an environment as a lock file of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.options import FRESH, selects_environment
from envboot.errors import UsageError
from envboot.lockfiles.writers import Export, export, find_urls
from envboot.selection import Selection
from envboot.session import open_session

if TYPE_CHECKING:
    from envboot.manifest import Base
    from envboot.session import Session


@click.command("export")
@click.option(
    "--format",
    "kind",
    type=click.Choice([kind.value for kind in Export]),
    required=True,
    help="What to write.",
)
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A manifest, as `envboot lock` prints it.",
)
@selects_environment
@FRESH
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file.  [default: stdout]",
)
def command(
    *,
    selection: Selection,
    kind: str,
    manifest: Path | None,
    fresh: bool,
    output: Path | None,
) -> None:
    """Write the exact packages of an environment for another tool.

    What a format cannot hold is left out with a warning. `--from` reads all of them again.
    """
    if manifest and selection != Selection():
        raise UsageError("Cannot take `--manifest` and choose an environment too")
    if output and not output.parent.is_dir():
        raise UsageError(f"Cannot write `{output}`: its folder was not found")
    wanted, session = Export(kind), open_session()
    with console.task("Looked up", unit="items"):
        if manifest:
            from envboot.source import read_manifest

            given = read_manifest(manifest, session)
            base, layer = given.base, given.layer
            projects = tuple(project.name for project in layer.projects) if layer else ()
        else:
            base, projects = _lock(selection, session, wanted, fresh=fresh)
        urls = find_urls(base, session, fresh=fresh) if wanted.wants_urls else {}
    found = export(base, projects, wanted, urls)
    for warning in found.warnings:
        console.print_warning(warning)
    if output:
        output.write_text(found.text, "utf-8")
    else:
        console.say(found.text, nl=False)


def _lock(
    selection: Selection, session: Session, kind: Export, *, fresh: bool
) -> tuple[Base, tuple[str, ...]]:
    from envboot.prepare import resolve

    found = resolve(
        selection,
        session,
        # The other formats need an interpreter that conda solves for.
        host_python=kind in (Export.PYLOCK, Export.REQUIREMENTS),
        fresh=fresh,
    )
    console.print_notes(found.notes)
    return found.locked.base, tuple(source.name for source in found.locked.sources)
