"""`envboot env`: environments in the bucket that have names, and versions that never change."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.launch_argument import JSON
from envboot.cli.options import FRESH, HOST_PYTHON, complete_published, selects_environment
from envboot.errors import UsageError
from envboot.publish.environments import (
    check_name,
    find_environment,
    list_names,
    list_versions,
    parse_reference,
    publish_environment,
    read_versions,
)
from envboot.session import open_session
from envboot.store import open_store
from envboot.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.manifest import Manifest
    from envboot.selection import Selection

STORE = click.option(
    "--store",
    metavar="URL",
    help="The bucket.  [default: `tool.envboot.store`, else a folder of this user]",
)


@click.group()
def command() -> None:
    """Publish environments under names, and see which there are.

    A version never changes. Launches take it as `--from NAME@3`, or the newest as
    `--from NAME@latest`, on machines that have nothing of the environment.
    """


@command.command()
@click.argument("name", shell_complete=complete_published)
@selects_environment
@HOST_PYTHON
@FRESH
@STORE
@JSON
def publish(
    *,
    name: str,
    selection: Selection,
    host_python: bool,
    fresh: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """Publish an environment as the next version of NAME.

    It is locked and put into the bucket, own code included, to stay there. Where the newest
    version is the same environment nothing is made.
    """
    from envboot.prepare import prepare_source

    check_name(name)
    session = open_session()
    with open_store(store or session.store, session) as bucket:
        with console.task("Scanned, locked and built", unit="items"):
            prepared = prepare_source(
                selection, session, bucket, host_python=host_python, fresh=fresh
            )
        console.print_notes(prepared.notes)
        with console.task("Published to the bucket") as progress:
            published = publish_environment(
                name,
                prepared.manifest,
                prepared.layer_path,
                bucket,
                session,
                now=datetime.now(timezone.utc),
                progress=progress,
            )
    document = published.document
    if as_json:
        console.print_json({**document, "new": published.is_new})
        return
    reference = f"{name}@{document['version']}"
    console.say(reference)
    if not published.is_new:
        console.say(f"`{reference}` is this environment already: no new version", err=True)


@command.command()
@click.argument("name", required=False, shell_complete=complete_published)
@STORE
@JSON
def ls(*, name: str | None, store: str | None, as_json: bool) -> None:
    """List what is published: the newest version of each name, or every one of NAME."""
    session = open_session()
    with open_store(store or session.store, session) as bucket:
        if name:
            versions = list_versions(bucket, check_name(name))
            if not versions:
                find_environment(bucket, name, session)  # It says what there is instead.
            wanted = [(name, version) for version in reversed(versions)]
        else:
            newest = sorted(list_names(bucket).items())
            wanted = [(each, versions[-1]) for each, versions in newest]
        documents, wrong, doubts = read_versions(bucket, wanted, session)
    for error in wrong:
        console.print_warning(error.message)
    console.print_notes(doubts)
    if as_json:
        console.print_json(documents)
    elif documents:
        console.say("\n".join(_render_table(documents)))
    else:
        console.say(f"Nothing is published in `{bucket.url}`", err=True)


@command.command()
@click.argument("reference", metavar="NAME[@VERSION]", shell_complete=complete_published)
@click.option("--manifest", "as_manifest", is_flag=True, help="Print its manifest.")
@STORE
@JSON
def show(*, reference: str, as_manifest: bool, store: str | None, as_json: bool) -> None:
    """Show what is in a published environment: packages and projects, by version."""
    if as_manifest and as_json:
        raise UsageError("Cannot take `--manifest` together with `--json`")
    parse_reference(reference)
    session = open_session()
    with open_store(store or session.store, session) as bucket:
        document, manifest = find_environment(bucket, reference, session, warn=console.print_notes)
    if as_manifest:
        console.print_json(manifest.to_dict())
    elif as_json:
        console.print_json({**document, "contents": list_contents(manifest)})
    else:
        console.say("\n".join(_render(document, manifest)))


def list_contents(manifest: Manifest) -> list[dict[str, str]]:
    """Return name, version and source of each package, as `conda` and `pypi`, by name."""
    names = [package.named for package in manifest.base.conda]
    conda = [("conda", found.name, found.version) for found in names]
    wheels = [("pypi", wheel.name, wheel.version) for wheel in manifest.base.wheels]
    return [
        {"name": name, "version": version, "source": source}
        for source, name, version in sorted([*conda, *wheels], key=lambda item: item[1])
    ]


def _render_table(documents: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        (
            f"{found['name']}@{found['version']}",
            found["platform"],
            found["python"],
            str(found["packages"]),
            " ".join(project["name"] for project in found["projects"]),
            found["created"],
            _name_publisher(found),
        )
        for found in documents
    ]
    head = ("ENVIRONMENT", "PLATFORM", "PYTHON", "PACKAGES", "PROJECTS", "CREATED", "PUBLISHER")
    return console.columns([head, *rows], right=(3,))


def _name_publisher(document: dict[str, Any]) -> str:
    """Return who published a version: who signed it, else who its document says it was."""
    if "signer" in document:
        return f"{document['signer']} (signed)"
    claimed = document.get("publisher")
    return f"{one_line(claimed)} (not verified)" if claimed else "unknown"


def _render(document: dict[str, Any], manifest: Manifest) -> list[str]:
    python = manifest.base.python
    origin = python.executable or "conda"
    lines = [
        f"name         {document['name']}@{document['version']}",
        f"created      {document['created']}",
        f"publisher    {_name_publisher(document)}",
        f"environment  {document['environment']}",
        f"base         {document['base']}",
        f"python       {python.version} ({origin}) for {document['platform']}",
    ]
    for project in document["projects"]:
        at = f" at {project['commit'][:12]}" if "commit" in project else ""
        lines.append(f"project      {project['name']} {project['version']}{at}")
    rows = [(found["name"], found["version"], found["source"]) for found in list_contents(manifest)]
    return [*lines, "", *console.columns([("PACKAGE", "VERSION", "FROM"), *rows])]
