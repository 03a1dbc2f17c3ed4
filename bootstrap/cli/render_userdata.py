"""`envboot render-userdata`: the document for an autoscaling group, a template, terraform."""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootstrap.cli import console
from bootstrap.cli.arguments import parse_variable, read_manifest, read_part, selects_environment
from bootstrap.errors import RenderError, UsageError
from bootstrap.selection import Selection
from bootstrap.userdata import Document, LaunchPath, render

if TYPE_CHECKING:
    from bootstrap.config import Settings
    from bootstrap.manifest import Manifest

LONGEST = 7 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command("render-userdata")
@click.option("--manifest", type=click.Path(), help="A manifest, as `envboot lock` prints it.")
@selects_environment
@click.option(
    "--store",
    metavar="URL",
    help="The bucket, as in `s3://bucket/prefix`; the guest gets signed URLs.",
)
@click.option(
    "--for",
    "path",
    type=click.Choice([path.value for path in LaunchPath]),
    default=LaunchPath.EC2.value,
    show_default=True,
    help="How the document reaches the machine: its limit and encoding.",
)
@click.option("--part", "parts", multiple=True, metavar="[TYPE:]FILE", help="Add a part of yours.")
@click.option(
    "--expires",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long signed URLs live: `90s`, `15m`, `24h`, at most `7d`.",
)
@click.option("--env", "variables", multiple=True, metavar="K=V", help="Set for the command.")
@click.option("-o", "--output", type=click.Path(), help="Write here rather than to stdout.")
@click.option("--explain", is_flag=True, help="Show on stderr what each part costs.")
@click.option("--json", "as_json", is_flag=True, help="Print document and costs as JSON.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def command(
    *,
    selection: Selection,
    manifest: str | None,
    store: str | None,
    path: str,
    parts: tuple[str, ...],
    expires: str,
    variables: tuple[str, ...],
    output: str | None,
    words: tuple[str, ...],
    explain: bool,
    as_json: bool,
) -> None:
    """Make the cloud-init user-data document for an environment.

    Without `--store` the guest installs from the indexes and channels, and publishes nothing.
    """
    from bootstrap.config import read_settings

    if manifest and selection != Selection():
        raise UsageError("Cannot take `--manifest` and choose an environment too")
    seconds = parse_duration(expires)
    extra = [read_part(spec) for spec in parts]
    environment = dict(parse_variable(variable) for variable in variables)
    settings = read_settings(Path.cwd())
    store = store or settings.store
    if store and store.startswith("file:"):
        raise UsageError(
            f"Cannot sign URLs that outlive this command in `{store}`",
            hint="Give a bucket that machines can reach, as in `--store s3://bucket/prefix`",
        )
    if manifest:
        found, layer = _read_manifest(manifest)
    else:
        found, layer, words = _prepare(selection, settings, path, words)
    if found.base.python.source == "host" and path != LaunchPath.LOCAL.value:
        raise RenderError(
            f"Cannot render for `{path}`: the manifest names this machine's own interpreter",
            causes=(f"`{found.base.python.executable}`",),
            hint="Lock without `--host-python`, so that the interpreter comes from a conda channel",
        )
    if found.layer and not store:
        names = ", ".join(f"`{project.name}`" for project in found.layer.projects) or "loose code"
        raise RenderError(
            f"Cannot carry the local layer ({names}) in user-data",
            hint="Give a bucket for it: `--store s3://bucket/prefix`"
            + ("" if found.layer.projects else ", or leave it here: `--no-loose`"),
        )
    grants = _publish(found, layer, store, seconds) if store else None
    if not store:
        _refuse_private(found)
    document = render(
        found,
        launch_path=LaunchPath(path),
        grants=grants,
        command=words,
        environment=environment,
        parts=extra,
    )
    if explain:
        click.echo(render_table(document), err=True)
    if grants:
        click.echo(f"Signed URLs live until {grants['expires']}", err=True)
    if as_json:
        console.print_json(to_json(document, path))
    else:
        _write(document, output)


def _refuse_private(manifest: Manifest) -> None:
    """Refuse what only a bucket can carry to guests that have no login for its channel."""
    from bootstrap.indexes.packages import find_private, note_channels

    private = find_private(manifest.base.conda, os.environ)
    if private:
        raise RenderError(
            f"Cannot carry {len(private)} conda packages, which want a login, in user-data",
            causes=tuple(f"`{note.subject}`: {note.message}" for note in note_channels(private)),
            hint="Give a bucket for them: `--store s3://bucket/prefix`",
        )


def parse_duration(text: str) -> int:
    """Return seconds of `90s`, `15m`, `24h` or `7d`; raises `UsageError`."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or not 0 < (seconds := int(found[1]) * _UNITS[found[2]]) <= LONGEST:
        raise UsageError(f"Expected a duration of at most `7d`, such as `24h`, found `{text}`")
    return seconds


def render_table(document: Document) -> str:
    """Return what each part costs, each rung that was looked at, and the limit."""
    limit = "none" if document.limit is None else f"{document.limit:,}"
    rows = [("PART", "RAW", "COUNTS")]
    rows += [(cost.part, f"{cost.raw:,}", f"{cost.counted:,}") for cost in document.costs]
    rows.append(("total", f"{sum(cost.raw for cost in document.costs):,}", f"{document.size:,}"))
    rungs = [("RUNG", "SIZE", "")]
    for attempt in document.attempts:
        note = "chosen" if attempt.rung is document.rung else attempt.note
        size = "-" if attempt.size is None else f"{attempt.size:,}"
        rungs.append((attempt.rung.value, size, note))
    return "\n".join(
        [*_columns(rows, right=(1, 2)), "", *_columns(rungs, right=(1,)), "", f"limit  {limit}"]
    )


def to_json(document: Document, path: str) -> dict[str, Any]:
    """Return the stable JSON of `--json`; the document itself is base64 in `document`."""
    return {
        "for": path,
        "rung": document.rung.name.lower(),
        "encoding": document.encoding,
        "size": document.size,
        "limit": document.limit,
        "costs": [
            {"part": cost.part, "raw": cost.raw, "counts": cost.counted} for cost in document.costs
        ],
        "rungs": [
            {"rung": attempt.rung.name.lower(), "size": attempt.size, "note": attempt.note}
            for attempt in document.attempts
        ],
        "document": base64.b64encode(document.payload).decode(),
    }


def _columns(rows: list[tuple[str, str, str]], *, right: tuple[int, ...]) -> list[str]:
    """Align rows in columns two spaces apart, those of `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _read_manifest(path: str) -> tuple[Manifest, Path | None]:
    """Read a manifest, and find its layer where it was locked on this machine."""
    from bootstrap.config import cache_folder
    from bootstrap.layer import find_archive

    manifest = read_manifest(Path(path))
    return manifest, find_archive(manifest.layer, cache_folder()) if manifest.layer else None


def _prepare(
    selection: Selection, settings: Settings, path: str, words: tuple[str, ...]
) -> tuple[Manifest, Path | None, tuple[str, ...]]:
    from bootstrap.config import cache_folder
    from bootstrap.prepare import prepare
    from bootstrap.required import starts_dask

    prepared = prepare(
        selection,
        host_python=path == LaunchPath.LOCAL.value,
        settings=settings,
        cache=cache_folder(),
        environment=os.environ,
        command=words,
        dask=starts_dask(words),
    )
    console.print_notes(prepared.notes)
    return prepared.manifest, prepared.layer_path, prepared.command


def _publish(manifest: Manifest, layer: Path | None, url: str, seconds: int) -> dict[str, Any]:
    from bootstrap.config import cache_folder
    from bootstrap.publish import publish
    from bootstrap.store import open_store

    with open_store(url) as store, console.task("Published to the bucket") as progress:
        return publish(
            manifest,
            layer,
            store,
            launch=secrets.token_hex(4),
            seconds=seconds,
            cache=cache_folder(),
            environment=os.environ,
            progress=progress,
        )


def _write(document: Document, output: str | None) -> None:
    binary = document.payload[:2] == b"\x1f\x8b"
    if output is None and binary and sys.stdout.isatty():
        raise UsageError(
            "Cannot write gzip to a terminal",
            hint="Write a file with `-o FILE`, or use `--for ec2-base64`",
        )
    if output is None or output == "-":
        sys.stdout.buffer.write(document.payload)
        return
    target = Path(output)
    # Signed URLs are credentials: only the user may read them.
    new = target.with_name(target.name + ".new")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(document.payload)  # A pipe or a device stays what it is.
            return
        new.touch(mode=0o600)
        new.write_bytes(document.payload)
        new.replace(target)
    except OSError as error:
        cause = error.strerror or str(error)
        raise UsageError(f"Cannot write `{output}`", causes=(cause,)) from error
