"""Counts, columns and foreign words as users read them. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# C0 but tab and line feed, DEL, C1 (U+009B alone is a whole CSI), line and paragraph separators,
# the controls that reorder what stands beside them (https://trojansource.codes), and surrogates,
# which no output stream can encode. A carriage return is left where it belongs to a line's end.
# Joiners, variation selectors and combining marks are how people write, and stay.
_CONTROL = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"
    "\N{LEFT-TO-RIGHT EMBEDDING}-\N{RIGHT-TO-LEFT OVERRIDE}"
    "\N{LEFT-TO-RIGHT ISOLATE}-\N{POP DIRECTIONAL ISOLATE}"
    "\ud800-\udfff"
)
_ACTIVE = re.compile(f"(?!\r\n)[{_CONTROL}]")
_ACTIVE_OR_SPACING = re.compile(f"[{_CONTROL}\t\n]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WIDEST = 120
"""Of cells that other rows are aligned to; longer ones stand out of their column."""
_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def show_controls(text: str) -> str:
    r"""Return a text in which what a terminal would obey is spelled out: `\x1b`, `\u202e`.

    Lines, tabs, emoji and combining marks stay as they are. Applied twice it changes no more.
    """
    return _ACTIVE.sub(_spell, text)


def one_line(text: str) -> str:
    r"""Return the same of a name or a cell, whose lines and tabs are spelled out too."""
    return _ACTIVE_OR_SPACING.sub(_spell, text)


def show_in_json(text: str) -> str:
    r"""Return JSON without what a terminal would obey, with the same meaning.

    `json.dumps` spells out C0 only; in a string the rest may be written as `\u009b`.
    """
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _spell(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _NAMED.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def is_variable_name(name: str) -> bool:
    """Return whether shells take a name for a variable (POSIX.1-2017, 3.235 "Name")."""
    return _VARIABLE.fullmatch(name) is not None


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 wheel` or `2 wheels`; `plural` is for nouns that take no `s`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Align rows in columns two spaces apart, those of `right` to the right.

    A cell is one line, whatever it holds: nobody can forge a row.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    # One machine's endless cell would fill up the rows of all others with blanks.
    widths = [
        max((len(cell) for cell in column if len(cell) <= _WIDEST), default=0)
        for column in zip(*cells, strict=True)
    ]
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]


SIZE = re.compile(r"none|(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[kMGT]?B)")
"""A size as users write it: `50GB`, `1.5 TB`, or `none` for no limit."""


def parse_size(text: str) -> int | None:
    """Return the bytes of a size, None for `none`; raises ValueError."""
    match = SIZE.fullmatch(text)
    if not match:
        raise ValueError(text)
    if not match["unit"]:
        return None
    return int(float(match["number"]) * 1000 ** ("B", "kB", "MB", "GB", "TB").index(match["unit"]))


def show_size(size: int) -> str:
    """Return a size for people: `12 B`, `1.2 kB`, `12.0 MB`."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{size / length:,.1f} {unit}"
    return f"{size} B"
