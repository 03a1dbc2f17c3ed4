"""Which files that a command makes come home."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 50 * 10**9
"""Bytes of all files of one machine together, where nothing else is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRules:
    """The files in the command's directory, and those at or below `paths`.

    `ignore` are patterns as in `.gitignore`. `limit` is how many bytes all files together may
    have, None for any number.
    """

    paths: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limit: int | None = LIMIT

    def to_dict(self) -> dict[str, Any]:
        """Return the member `output` of config.json; what is empty is left out."""
        found = {
            "paths": list(self.paths),
            "ignore": _compile_patterns(self.ignore),
            "limit": self.limit,
        }
        return {name: value for name, value in found.items() if value}


def _compile_patterns(lines: Sequence[str]) -> list[list[Any]]:
    """Return patterns as regular expressions, and whether each leaves out what it matches.

    The agent then needs no reader of its own. It matches whole paths, those of directories with a
    slash behind them, from the top down; pathspec's expressions match parts of a path, so that
    what decides on a directory cannot be told from what decides on a file below it.

    Raises:
        ValueError: a line is no pattern.
    """
    from pathspec import GitIgnoreSpec

    GitIgnoreSpec.from_lines(lines)
    found = []
    for line in lines:
        # A space at the end counts if it is escaped.
        text = re.sub(r"(?<!\\)\s+$", "", line)
        if text and not text.startswith("#"):
            found.append([_compile_pattern(text.removeprefix("!")), not text.startswith("!")])
    return found


def _compile_pattern(text: str) -> str:
    """Return the regular expression of one pattern (gitignore(5))."""
    is_folder, core = text.endswith("/"), text.rstrip("/")
    start = "" if "/" in core else "(?:.*/)?"
    body = _TOKEN.sub(_translate, core.removeprefix("/"))
    return f"(?s){start}{body}{'/' if is_folder else '/?'}"


_TOKEN = re.compile(r"^\*\*/|(?<=/)\*\*/|(?<=/)\*\*$|\*+|\?|\[!?\]?[^]]*\]|\\.|.", re.DOTALL)


def _translate(found: re.Match[str]) -> str:
    piece = found[0]
    if piece == "**/":
        return "(?:.*/)?"
    if piece == "**" and found.end() == len(found.string) and found.start():
        return ".+"
    if piece[0] == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 2 and piece[0] == "[":
        inner = piece[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"(?!/)[{'^' + inner[1:] if inner[0] == '!' else inner}]"
    return re.escape(piece[1:] if len(piece) == 2 else piece)
