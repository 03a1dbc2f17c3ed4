"""What becomes of each package on the way to the machines, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from envboot.text import columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from envboot.scan.installed import Replaced

_STATUS = ("same", "patch", "replaced", "dropped", "added")
_WORDS = {"patch": "patch differs"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One package: its version `here` and `there` (None: not there), and why it is not the same.

    `patch` says that only what comes after `major.minor` differs, `added` that it is not here.
    """

    name: str
    source: Literal["conda", "pypi", "layer", "added"]
    here: str | None = None
    there: str | None = None
    status: Literal["same", "patch", "replaced", "dropped", "added"]
    reason: str | None = None


def compare(
    name: str,
    source: Literal["conda", "pypi", "layer"],
    here: str | None,
    there: str | None,
    reason: str | None = None,
) -> Row:
    """Return the row of a package; what is the same needs no reason."""
    if here is None:
        return Row(name=name, source=source, there=there, status="added", reason=reason)
    if there is None:
        return Row(name=name, source=source, here=here, status="dropped", reason=reason)
    if here == there:
        return Row(name=name, source=source, here=here, there=there, status="same")
    is_patch = here.split(".")[:2] == there.split(".")[:2]
    status: Literal["patch", "replaced"] = "patch" if is_patch else "replaced"
    return Row(name=name, source=source, here=here, there=there, status=status, reason=reason)


def compare_all(
    source: Literal["conda", "pypi", "layer"],
    here: Mapping[str, str],
    there: Mapping[str, str],
    reasons: Mapping[str, str],
    added: str,
) -> tuple[Row, ...]:
    """Compare versions by name; `added` is why something is there only."""
    return tuple(
        compare(
            name,
            source,
            here.get(name),
            there.get(name),
            reasons.get(name, None if name in here else added),
        )
        for name in sorted({*here, *there})
    )


def mark_edited(rows: Sequence[Row], edited: Collection[str]) -> tuple[Row, ...]:
    """Say of packages whose files were `edited` in place that they do not go as they are."""
    goes = {
        "pypi": "the index's files go",
        "conda": "the channel's files go",
        "layer": "what it was installed from goes",
    }
    return tuple(
        replace(
            row,
            status="replaced",
            reason=f"edited here since its installation: {goes[row.source]}",
        )
        if row.status == "same" and row.source in goes and row.name in edited
        else row
        for row in rows
    )


def mark_replaced(rows: Sequence[Row], replaced: Sequence[Replaced]) -> tuple[Row, ...]:
    """Say of packages of the layer that what is built for it is not what is installed here."""
    by_name = {each.name: each for each in replaced}
    return tuple(
        replace(row, there=found.version, status="replaced", reason=found.reason)
        if row.here and row.source != "conda" and (found := by_name.get(row.name))
        else row
        for row in rows
    )


def render_plan(rows: Sequence[Row], *, show_all: bool = False) -> str:
    """Return the counts, and a table of what differs; with `show_all` of everything."""
    counts = [
        f"{number} {_WORDS.get(status, status)}"
        for status in _STATUS
        if (number := sum(row.status == status for row in rows))
    ]
    summary = ", ".join(counts) or "Nothing but the interpreter"
    shown = sorted(
        (row for row in rows if show_all or row.status != "same"),
        key=lambda row: (row.name, row.source),
    )
    if not shown:
        return summary
    table = [("NAME", "FROM", "HERE", "THERE", "STATUS", "WHY")]
    table += [
        (
            row.name,
            row.source,
            row.here or "-",
            row.there or "-",
            _WORDS.get(row.status, row.status),
            row.reason or "",
        )
        for row in shown
    ]
    return "\n".join([*columns(table), "", summary])


def compare_added(
    versions: Mapping[str, str], asked: Collection[str], reason: str
) -> tuple[Row, ...]:
    """Return rows of what comes from indexes and is not here; `reason` is why it comes unasked."""
    return tuple(
        Row(name=name, source="added", there=version, status="added", reason="is asked for")
        if name in asked
        else Row(name=name, source="pypi", there=version, status="added", reason=reason)
        for name, version in sorted(versions.items())
    )
