"""What users read: errors and progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import click

from envboot.errors import name_some
from envboot.text import columns as columns
from envboot.text import count as count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envboot.errors import EnvbootError
    from envboot.scan.schema import Problem


class Progress(Protocol):
    """Receives how far one task has come."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """`done` of `total` bytes or items; `total` None while it is not known."""


def print_error(error: EnvbootError) -> None:
    """Print `error:`, each `caused by:` and the `hint:`, on stderr."""
    click.secho("error", fg="red", bold=True, nl=False, err=True)
    click.echo(f": {error.message}", err=True)
    for cause in error.causes:
        click.echo(f"  caused by: {cause}", err=True)
    if error.hint:
        click.echo(err=True)
        click.secho("hint", fg="cyan", bold=True, nl=False, err=True)
        click.echo(f": {error.hint}", err=True)


def print_warning(message: str) -> None:
    """Print `warning: …` on stderr."""
    click.secho("warning", fg="yellow", bold=True, nl=False, err=True)
    click.echo(f": {message}", err=True)


def print_notes(notes: Iterable[Problem]) -> None:
    """Print one warning a message: what many packages share is said once."""
    ordered = sorted(notes, key=lambda note: (note.message, note.subject))
    for message, group in groupby(ordered, key=lambda note: note.message):
        print_warning(f"{name_some([note.subject for note in group])}: {message}")


def print_malformed(keys: Sequence[str]) -> None:
    """Warn of reports in the bucket that no agent has written."""
    if keys:
        names = name_some(list(keys), most=3)
        print_warning(f"Left out {count(len(keys), 'report')} that no agent wrote: {names}")


def age(seconds: float) -> str:
    """Return `5 m`, `2 h` or `3 d` for what is that old."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"


def count_files(sizes: Sequence[int]) -> str:
    """Return `2 files, 1.2 kB` for files of those sizes."""
    total = sum(sizes)
    amount = f"{total / 1e6:,.1f} MB" if total >= 1e6 else f"{total / 1e3:.1f} kB"
    return f"{count(len(sizes), 'file')}, {amount}"


def print_json(document: Any) -> None:
    """Print a document on stdout, two-space indented, keys in the order given."""
    click.echo(to_json(document))


def to_json(document: Any) -> str:
    """Return a document as `--json` shows it, without the last line's end."""
    return json.dumps(document, indent=2, ensure_ascii=False)


@contextlib.contextmanager
def task(title: str, *, unit: str = "bytes") -> Iterator[Progress]:
    """Show one task on stderr: a bar where a person watches, one line at its end elsewhere."""
    if not sys.stderr.isatty():
        start = time.monotonic()
        yield _ignore
        click.echo(f"{title} ({time.monotonic() - start:.1f} s)", err=True)
        return
    from rich import progress as bars
    from rich.console import Console

    sized: tuple[bars.ProgressColumn, ...] = (
        (bars.DownloadColumn(), bars.TransferSpeedColumn())
        if unit == "bytes"
        else (bars.MofNCompleteColumn(),)
    )
    columns = (bars.SpinnerColumn(), bars.TextColumn("{task.description}"), bars.BarColumn())
    with bars.Progress(
        *columns, *sized, bars.TimeElapsedColumn(), console=Console(stderr=True)
    ) as bar:
        row = bar.add_task(title, total=None)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(row, completed=done, total=total)

        yield advance


def _ignore(done: int, total: int | None = None) -> None:
    """Show nothing: nobody watches."""
    del done, total
