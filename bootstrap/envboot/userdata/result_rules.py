"""Which files that a command makes come home."""

from __future__ import annotations

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

    The agent then needs no reader of its own for them.
    """
    from pathspec import GitIgnoreSpec

    found = GitIgnoreSpec.from_lines(lines).patterns if lines else []
    return [[each.regex.pattern, bool(each.include)] for each in found if each.regex]
