"""`envboot scan`: what is in an environment, for people and as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.options import PYTHON
from envboot.scan import scan
from envboot.scan.sizes import describe_sizes, measure
from envboot.text import columns, count

if TYPE_CHECKING:
    from envboot.scan.schema import Distribution, Scan, Source

_COMMIT = 12
_SHOWN = 5
_ORIGINS = {
    "current": "current folder",
    "pythonpath": "PYTHONPATH",
    "pth": ".pth file",
    "site": "site-packages",
}


@click.command("scan")
@PYTHON
@click.option("--sources", is_flag=True, help="Show only the projects that this machine builds.")
@click.option("--json", "as_json", is_flag=True, help="Print the document.")
def command(python: str | None, *, sources: bool, as_json: bool) -> None:
    """Report what is in an environment: interpreter, packages, projects and problems."""
    found = scan(python, environment=os.environ, folder=Path.cwd())
    if sources:
        from envboot.documents import plain
        from envboot.scan.projects import find_sources

        projects = find_sources(found)
        if as_json:
            console.print_json([plain(project) for project in projects])
        else:
            console.say(_render_sources(projects))
    elif as_json:
        console.print_json(found.to_dict())
        return  # Its problems are in the document.
    else:
        console.say(_render_scan(found))
    console.print_notes(found.problems)


def _render_scan(found: Scan) -> str:
    python = found.interpreter
    libc = f", glibc {found.glibc}" if found.glibc else ""
    counts = [count(len(found.distributions), "distribution")]
    if found.kind == "conda":
        counts.append(count(len(found.conda), "conda package"))
    made = f", {found.manager}" if found.manager not in (None, found.kind) else ""
    facts = [
        ("environment", f"{python.prefix} ({found.kind}{made})"),
        ("python", f"{python.version} ({python.implementation}, {found.platform}{libc})"),
        ("packages", ", ".join(counts)),
    ]
    size, largest = describe_sizes(measure(found))
    facts += [("size", size), *([("largest", largest)] if largest else [])]
    if found.cuda:
        facts.append(("driver", f"CUDA {found.cuda}"))
    packages = [("NAME", "VERSION", "FROM", "NOTES")]
    packages += [
        (each.name, each.version, _origin(each), _note(each)) for each in found.distributions
    ]
    loose = [("LOOSE CODE", "FROM", "NAMES")]
    loose += [(each.folder, _ORIGINS[each.origin], _some(each.names)) for each in found.loose]
    tables = [facts, *(rows for rows in (packages, loose) if len(rows) > 1)]
    return "\n\n".join("\n".join(columns(rows)) for rows in tables)


def _render_sources(projects: tuple[Source, ...]) -> str:
    if not projects:
        return "No projects: every distribution comes from an index or a channel"
    rows = [("NAME", "VERSION", "SOURCE", "COMMIT", "SUBDIRECTORY")]
    for item in projects:
        source = item.git or item.path or ""
        commit = (item.commit or "")[:_COMMIT]
        rows.append((item.name, item.version, source, commit, item.subdirectory or ""))
    return "\n".join(columns(rows))


def _origin(item: Distribution) -> str:
    if item.conda or item.system:
        return "conda" if item.conda else "system"
    if item.editable:
        return "editable"
    direct = item.direct_url
    if direct is None:
        return "pypi" if item.record != "missing" else "unknown"
    if "vcs_info" in direct:
        return str(direct["vcs_info"].get("vcs"))
    if "dir_info" in direct:
        return "path"
    return "wheel" if str(direct.get("url")).endswith(".whl") else "sdist"


def _note(item: Distribution) -> str:
    notes = [f"record {item.record}"]
    if item.record == "ok" or item.editable or item.system:
        notes = []
    direct = item.direct_url or {}
    if direct:
        commit = direct.get("vcs_info", {}).get("commit_id", "")[:_COMMIT]
        below = f"#{direct['subdirectory']}" if "subdirectory" in direct else ""
        notes.append(f"{direct.get('url')}{'@' if commit else ''}{commit}{below}")
    return ", ".join(notes)


def _some(names: tuple[str, ...]) -> str:
    """Return the first names, and how many others there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
