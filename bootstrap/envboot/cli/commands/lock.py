"""`envboot lock`: the manifest of an environment, and its layer in the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.options import FRESH, HOST_PYTHON, selects_environment
from envboot.errors import UsageError
from envboot.prepare import prepare
from envboot.session import open_session
from envboot.text import count

if TYPE_CHECKING:
    from envboot.layer import BuiltLayer
    from envboot.manifest import Manifest
    from envboot.selection import Selection


@click.command("lock")
@selects_environment
@HOST_PYTHON
@FRESH
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the manifest to this file.  [default: stdout]",
)
def command(*, selection: Selection, host_python: bool, fresh: bool, output: Path | None) -> None:
    """Make the manifest: exact packages for the target platform, and the local layer.

    The same environment gives the same manifest; what was looked up is kept for 24 hours.
    """
    if output and not output.parent.is_dir():
        raise UsageError(f"Cannot write `{output}`: its folder was not found")
    with console.task("Scanned, locked and built", unit="items"):
        prepared = prepare(
            selection,
            open_session(),
            host_python=host_python,
            fresh=fresh,
        )
    manifest = prepared.manifest
    console.print_notes(prepared.notes)
    console.say(_render_summary(manifest, prepared.layer), err=True)
    if output is None:
        console.print_json(manifest.to_dict())
        return
    # As the shell would write it: it may be a pipe, and others may read it.
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
    output.write_text(text, "utf-8")


def _render_summary(manifest: Manifest, layer: BuiltLayer | None) -> str:
    base = manifest.base
    counts = [
        count(len(base.conda), "conda package"),
        count(len(base.wheels), "wheel"),
    ]
    origin = base.python.executable or "conda"
    lines = [
        f"environment  {manifest.environment_digest}",
        f"base         {manifest.base_digest}",
        f"python       {base.python.version} ({origin}) for {base.platform}",
        f"packages     {', '.join(counts)}",
    ]
    if layer:
        lines.append(f"layer        {layer.manifest.digest} ({layer.size:,} bytes)")
        for project in layer.manifest.projects:
            at = f" at {project.commit[:12]}" if project.commit else ""
            state = "built" if project.name in layer.built else "cached"
            lines.append(f"             {project.name} {project.version}{at}, {state}")
        if layer.code.files:
            amount = console.count_files([file.size for file in layer.code.files])
            lines.append(f"             loose code: {amount}")
    return "\n".join(lines)
