"""What users read: errors and progress on stderr, results on stdout.

Nothing else in the client writes to a terminal, so that what a machine, a package or a server
says is shown there, whoever passes it on, and never obeyed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from envboot.errors import name_some
from envboot.text import columns as columns
from envboot.text import count as count
from envboot.text import one_line, show_controls, show_in_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envboot.errors import EnvbootError
    from envboot.scan.schema import Problem


_LOADED = time.monotonic()


class Progress(Protocol):
    """Receives how far one task has come."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """`done` of `total` bytes or items; `total` None while it is not known."""


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text on stdout or stderr; what a terminal would obey in it is spelled out."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # What the terminal has no character for must not end a launch.
    shown = show_controls(text).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(shown, err=err, nl=nl)


def say_word(word: str, colour: str | None, *, err: bool = False, bold: bool = False) -> None:
    """Print one coloured word; the line goes on."""
    click.secho(
        show_controls(word), fg=colour, bold=bold or None, nl=False, err=err, color=has_colour()
    )


def confirm(question: str) -> None:
    """Ask on stderr whether to go on; raises `click.Abort` if not."""
    click.confirm(show_controls(question), abort=True, err=True)


def write(data: bytes, *, err: bool = False) -> None:
    """Write bytes on stdout or stderr as they are: a document, or what was asked for raw."""
    stream = sys.stderr if err else sys.stdout
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


def draw(text: str, columns: int) -> None:
    """Draw the one line of progress anew on stderr, no wider than that.

    Raises:
        OSError: the terminal was closed.
    """
    sys.stderr.write(f"\r\x1b[K{one_line(text)[:columns]}")
    sys.stderr.flush()


def is_terminal(*, err: bool = False) -> bool:
    """Whether a person watches stdout, or stderr."""
    return (sys.stderr if err else sys.stdout).isatty()


def can_draw() -> bool:
    """Whether a line of stderr can be drawn over; `TERM=dumb` is a terminal that cannot."""
    return is_terminal(err=True) and os.environ.get("TERM") != "dumb"


def has_colour() -> bool | None:
    """Return False where colours are unwanted (https://no-color.org), None for click to decide."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def print_error(error: EnvbootError) -> None:
    """Print `error:`, each `caused by:` and the `hint:`, on stderr."""
    say_word("error", "red", err=True, bold=True)
    say(f": {_indent(error.message)}", err=True)
    for cause in error.causes:
        say(f"  caused by: {_indent(cause)}", err=True)
    if error.hint:
        say(err=True)
        say_word("hint", "cyan", err=True, bold=True)
        say(f": {_indent(error.hint)}", err=True)


def print_warning(message: str) -> None:
    """Print `warning: …` on stderr."""
    say_word("warning", "yellow", err=True, bold=True)
    say(f": {_indent(message)}", err=True)


def _indent(text: str) -> str:
    """Indent the lines after the first, so that no text looks like another error or a hint."""
    first, *rest = text.split("\n")
    return "\n".join([first, *(f"    {line}" if line[:1].strip() else line for line in rest)])


def print_notes(notes: Iterable[Problem]) -> None:
    """Print one warning a message: what many packages share is said once."""
    ordered = sorted(notes, key=lambda note: (note.message, note.subject))
    for message, group in groupby(ordered, key=lambda note: note.message):
        print_warning(f"{name_some([note.subject for note in group])}: {message}")


def print_malformed(keys: Sequence[str]) -> None:
    """Warn of documents of a launch that neither envboot nor an agent has written."""
    if keys:
        names = name_some(list(keys), most=3)
        print_warning(f"Left out {count(len(keys), 'report')} that no agent wrote: {names}")


def find_age() -> float:
    """Return for how many seconds this process has run, as a stopwatch shows it."""
    try:
        # When it started, in ticks since the boot (proc(5)).
        ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.monotonic() - _LOADED


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
    say(to_json(document))


def to_json(document: Any) -> str:
    """Return a document as `--json` shows it, without the last line's end."""
    return show_in_json(json.dumps(document, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def show_log() -> Iterator[None]:
    """Show on stderr what the client logs meanwhile, above the line of progress."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if can_draw():
                draw("", 0)
            say(record.getMessage(), err=True)

    logger, lines = logging.getLogger("envboot"), Lines(logging.INFO)
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)


@contextlib.contextmanager
def task(title: str, *, unit: str = "bytes") -> Iterator[Progress]:
    """Show one task on stderr: a bar where a person watches, one line at its end elsewhere."""
    if not can_draw():
        start = time.monotonic()
        yield _ignore
        say(f"{title} ({time.monotonic() - start:.1f} s)", err=True)
        return
    from rich import progress as bars
    from rich.console import Console

    sized: tuple[bars.ProgressColumn, ...] = (
        (bars.DownloadColumn(), bars.TransferSpeedColumn())
        if unit == "bytes"
        else (bars.MofNCompleteColumn(),)
    )
    title_column = bars.TextColumn("{task.description}", markup=False)
    with bars.Progress(
        bars.SpinnerColumn(),
        title_column,
        bars.BarColumn(),
        *sized,
        bars.TimeElapsedColumn(),
        console=Console(stderr=True),
    ) as bar:
        row = bar.add_task(one_line(title), total=None)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(row, completed=done, total=total)

        yield advance


def _ignore(done: int, total: int | None = None) -> None:
    """Show nothing: nobody watches."""
    del done, total
