"""Refusing what machines would not get exactly as it is installed here. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot.errors import LockError, list_causes, name_some
from envboot.selection.apply import CHOSEN
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.lock.comparison import Row

_HINT = (
    "Install these again, so that they are what machines get, or drop `--strict` and "
    "`strict = true` of `[tool.envboot]`; `envboot plan` shows every difference"
)


def find_differing(rows: Sequence[Row]) -> dict[str, str]:
    """Return how packages differ, by name; what the user left out by name is no difference."""
    return {
        row.name: _describe(row)
        for row in rows
        if row.status not in ("same", "added") and row.reason not in CHOSEN
    }


def refuse_differing(rows: Sequence[Row], hint: str = _HINT) -> None:
    """Refuse packages that machines do not get exactly as they are installed here.

    Raises:
        LockError: naming every one of them.
    """
    found = find_differing(rows)
    if found:
        raise LockError(
            f"Cannot bring {count(len(found), 'package')} exactly as installed: "
            f"{name_some([*found])}",
            causes=list_causes(f"`{name}`: {why}" for name, why in found.items()),
            hint=hint,
        )


def _describe(row: Row) -> str:
    there = f"{row.there} there" if row.there else "stays here"
    reason = f" ({row.reason})" if row.reason else ""
    return f"{row.here} here, {there}{reason}"
