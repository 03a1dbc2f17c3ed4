"""What goes to the machines, by the arguments that users of Coiled's `Cluster` know. Pure.

The names and their meaning are of `coiled.Cluster` (https://docs.coiled.io/user_guide/software).
"""

from __future__ import annotations

import difflib
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from packaging.utils import canonicalize_name

from envboot.errors import LockError, UsageError, list_causes, name_some
from envboot.scan.dependencies import parse_added
from envboot.selection import Selection
from envboot.selection.apply import CHOSEN
from envboot.selection.strict import find_differing, refuse_differing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from envboot.prepare import Prepared

_WAYS = (
    "leave that out, leave them here with `package_sync_ignore`, or install what the machines "
    "can have; `envboot plan` shows all"
)


class FailOn(str, Enum):
    """What of the differences between here and there is an error.

    `critical-only`: a required package that is missing, which is refused whatever this says.
    `warning-or-higher`: also a package that stays here, or arrives in another `major.minor`, or
    that something is to be said about. `any`: whatever there is to say.
    """

    CRITICAL = "critical-only"
    WARNING = "warning-or-higher"
    ANY = "any"


class PackageSyncOptions(TypedDict, total=False):
    """The arguments of `coiled.Cluster` that choose packages, by their names."""

    package_sync: bool | str | Iterable[str] | None
    package_sync_ignore: str | Iterable[str] | None
    package_sync_only: str | Iterable[str] | None
    package_sync_conda_extras: str | Iterable[str] | None
    package_sync_strict: bool
    package_sync_fail_on: Literal["critical-only", "warning-or-higher", "any"]
    package_sync_use_uv_installer: bool


DEFAULTS: PackageSyncOptions = {
    "package_sync": None,
    "package_sync_ignore": None,
    "package_sync_only": None,
    "package_sync_conda_extras": None,
    "package_sync_strict": False,
    "package_sync_fail_on": "critical-only",
    "package_sync_use_uv_installer": True,
}


def selection_from(
    *,
    platform: str | None = None,
    cuda: str | None = None,
    **options: Unpack[PackageSyncOptions],
) -> Selection:
    """Return what the arguments select of the environment, for machines of `platform`.

    A name is given by itself, or several in a list, a tuple or a set. `package_sync_conda_extras`
    are requirements that this machine need not have: they come from the indexes, as of `--add`.
    What `package_sync_strict` and `package_sync_fail_on` demand is checked here and by
    `refuse_differences`, once the environment is prepared.

    Raises:
        UsageError: an argument is unknown, is not what it should be, or has no meaning here.
    """
    for name in options:
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, [*DEFAULTS, "platform", "cuda"], n=1)
            hint = f"Did you mean `{near[0]}`?" if near else None
            raise UsageError(f"Unknown argument `{name}`", hint=hint)
    given = {**DEFAULTS, **options}
    package_sync = given["package_sync"]
    if package_sync is False:
        raise UsageError(
            "Cannot use `package_sync=False`: without an environment the machines have nothing",
            hint="Name another one: `environment=` takes a lock file, a manifest and a published "
            "environment",
        )
    if given["package_sync_use_uv_installer"] is not True:
        raise UsageError(
            "Cannot use `package_sync_use_uv_installer=False`: machines install wheels with uv, "
            "and have no pip",
            hint="Leave it out",
        )
    read_demands(strict=given["package_sync_strict"], fail_on=given["package_sync_fail_on"])
    listed = () if package_sync in (None, True) else package_sync
    only = (
        *_read_names("package_sync", listed),
        *_read_names("package_sync_only", given["package_sync_only"]),
    )
    extras = _read_texts("package_sync_conda_extras", given["package_sync_conda_extras"])
    if extras:
        parse_added(extras)
    return Selection(
        ignore=_read_names("package_sync_ignore", given["package_sync_ignore"]),
        # The interpreter goes in any case, and is no package where conda does not bring it.
        only=tuple(name for name in only if canonicalize_name(name) != "python"),
        add=extras,
        platform=platform,
        cuda=cuda,
    )


def read_demands(*, strict: object, fail_on: object) -> FailOn:
    """Return the level that is demanded.

    Raises:
        UsageError: one of them is not what it should be.
    """
    if not isinstance(strict, bool):
        raise UsageError(f"Expected `package_sync_strict` as True or False, found `{strict!r}`")
    levels = [level.value for level in FailOn]
    if fail_on not in levels:
        raise UsageError(
            f"Expected `package_sync_fail_on` as one of {name_some(levels)}, found `{fail_on!r}`"
        )
    return FailOn(fail_on)


def refuse_differences(
    prepared: Prepared,
    *,
    strict: bool = False,
    fail_on: FailOn | Literal["critical-only", "warning-or-higher", "any"] = FailOn.CRITICAL,
) -> None:
    """Refuse an environment that differs from the one here by more than is demanded.

    With `strict` every package must arrive exactly as it is installed. What the user left out by
    name is no difference.

    Raises:
        UsageError: the demands are not what they should be.
        LockError: naming every package, or whatever else differs.
    """
    level = read_demands(strict=strict, fail_on=fail_on)
    chosen = {canonicalize_name(row.name) for row in prepared.rows if row.reason in CHOSEN}
    if strict:
        refuse_differing(prepared.rows, f"`package_sync_strict` demands it: {_WAYS}")
    differing = find_differing(prepared.rows)
    patches = {row.name for row in prepared.rows if row.status == "patch"}
    notes = [note for note in prepared.notes if canonicalize_name(note.subject) not in chosen]
    packages = {canonicalize_name(row.name) for row in prepared.rows}
    found = {}
    if level is not FailOn.CRITICAL:
        every = level is FailOn.ANY
        for note in notes:
            if every or canonicalize_name(note.subject) in packages:
                found[note.subject] = note.message
        found |= {name: why for name, why in differing.items() if every or name not in patches}
    if found:
        raise LockError(
            f"Cannot bring everything as it is: {name_some([*found])}",
            causes=list_causes(f"`{name}`: {why}" for name, why in found.items()),
            hint=f'`package_sync_fail_on="{level.value}"` demands it: {_WAYS}',
        )


def _read_names(argument: str, value: object) -> tuple[str, ...]:
    """Return names; in one text they may stand behind commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return _read_texts(argument, value)


def _read_texts(argument: str, value: Any) -> tuple[str, ...]:
    """Return the texts of a list, a tuple or a set; one text is itself."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    # The order of a set is another in each process.
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"Expected `{argument}` as a list of names, found `{value!r}`")
    return tuple(value)
