"""`envboot scan`: what is in an environment, for people and as JSON."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from bootstrap.cli import console
from bootstrap.cli.arguments import PYTHON
from bootstrap.documents import plain
from bootstrap.scan import find_sources, scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootstrap.scan.document import Distribution, Scan, Source

_COMMIT = 12


@click.command("scan")
@PYTHON
@click.option("--sources", is_flag=True, help="Show only the projects that this machine builds.")
@click.option("--json", "as_json", is_flag=True, help="Print the document.")
def command(python: str | None, *, sources: bool, as_json: bool) -> None:
    """Report what is in an environment: interpreter, packages, projects and problems."""
    found = scan(python, environment=os.environ)
    if sources:
        projects = find_sources(found)
        if as_json:
            console.print_json([plain(project) for project in projects])
        else:
            click.echo(_render_sources(projects))
    elif as_json:
        console.print_json(found.to_dict())
        return  # Its problems are in the document.
    else:
        click.echo(_render_scan(found))
    console.print_notes(found.problems)


def _render_scan(found: Scan) -> str:
    python = found.interpreter
    libc = f", glibc {found.glibc}" if found.glibc else ""
    counts = [console.count(len(found.distributions), "distribution")]
    if found.kind == "conda":
        counts.append(console.count(len(found.conda), "conda package"))
    facts = [
        ("environment", f"{python.prefix} ({found.kind})"),
        ("python", f"{python.version} ({python.implementation}, {found.platform}{libc})"),
        ("packages", ", ".join(counts)),
    ]
    rows = [("NAME", "VERSION", "FROM", "NOTES")]
    rows += [(item.name, item.version, _origin(item), _note(item)) for item in found.distributions]
    return _columns(facts) + ("\n\n" + _columns(rows) if len(rows) > 1 else "")


def _render_sources(projects: tuple[Source, ...]) -> str:
    if not projects:
        return "No projects: every distribution comes from an index or a channel"
    rows = [("NAME", "VERSION", "SOURCE", "COMMIT", "SUBDIRECTORY")]
    for item in projects:
        source = item.git or item.path or ""
        commit = (item.commit or "")[:_COMMIT]
        rows.append((item.name, item.version, source, commit, item.subdirectory or ""))
    return _columns(rows)


def _origin(item: Distribution) -> str:
    if item.conda:
        return "conda"
    if item.editable:
        return "editable"
    direct = item.direct_url
    if direct is None:
        if item.location.endswith("/lib/python3/dist-packages"):
            return "system"
        return "pypi" if item.record != "missing" else "unknown"
    if "vcs_info" in direct:
        return str(direct["vcs_info"].get("vcs"))
    if "dir_info" in direct:
        return "path"
    return "wheel" if str(direct.get("url")).endswith(".whl") else "sdist"


def _note(item: Distribution) -> str:
    notes = [] if item.record == "ok" or item.editable else [f"record {item.record}"]
    direct = item.direct_url or {}
    if direct:
        commit = direct.get("vcs_info", {}).get("commit_id", "")[:_COMMIT]
        below = f"#{direct['subdirectory']}" if "subdirectory" in direct else ""
        notes.append(f"{direct.get('url')}{'@' if commit else ''}{commit}{below}")
    return ", ".join(notes)


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Align rows in columns two spaces apart, without trailing blanks."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)
