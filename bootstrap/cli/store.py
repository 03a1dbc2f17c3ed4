"""`envboot store`: look into a bucket, tidy it, serve a folder as one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from bootstrap.cli import console
from bootstrap.errors import name_some
from bootstrap.store import open_store

if TYPE_CHECKING:
    from bootstrap.store import Stat


@click.group()
def command() -> None:
    """Work with the bucket."""


@command.command()
@click.argument("url")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 for any free one.")
def serve(url: str, port: int) -> None:
    """Serve the folder URL (`file:///folder`) on loopback until Ctrl-C.

    URLs that were signed for the same folder and port keep working.
    """
    import threading

    from bootstrap.store.local import LocalStore

    with LocalStore(url, port=port) as store:
        click.echo(f"http://127.0.0.1:{store.serve().server_port}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("Stopped", err=True)


@command.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def ls(url: str, as_json: bool) -> None:
    """List the objects in the bucket URL: age, size and key."""
    with open_store(url) as store:
        found = list(store.list(""))
    if not found:
        # In S3 a prefix that was never used is an empty one.
        console.print_warning(
            f"`{url}` holds nothing: no launch has used it yet, or its name is another"
        )
    if as_json:
        console.print_json(
            [{"key": s.key, "size": s.size, "modified": s.modified.isoformat()} for s in found]
        )
        return
    for line in render_listing(found, datetime.now(timezone.utc)):
        click.echo(line)


@command.command()
@click.argument("url")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(url: str, keys: tuple[str, ...], yes: bool) -> None:
    """Remove objects from the bucket URL; one that is not there is no error."""
    with open_store(url) as store:
        if not yes:
            click.confirm(f"Remove {name_some(list(keys))} from `{url}`?", abort=True, err=True)
        for key in keys:
            store.delete(key)


def render_listing(found: list[Stat], now: datetime) -> list[str]:
    """Return a line an object: age, size and key, in columns."""
    rows = [(_age((now - s.modified).total_seconds()), _size(s.size), s.key) for s in found]
    return [f"{age:>5}  {size:>9}  {key}" for age, size, key in rows]


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
