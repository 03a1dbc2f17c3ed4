"""What must be in an environment, whatever else it has: Dask's own and the project's. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from envboot.errors import LISTED, LockError, name_some
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from envboot.config import Settings
    from envboot.manifest import Base

DASK = ("cloudpickle", "dask", "distributed", "msgpack", "tornado")
"""What scheduler, workers and client must all have, in the very same versions."""

_DASK_PROGRAMS = ("dask", "dask-scheduler", "dask-ssh", "dask-worker")
_DASK_MODULES = ("dask", "distributed")
# conda's packages of these distributions have other names.
_CONDA_NAMES = {"dask": "dask-core", "msgpack": "msgpack-python"}


def starts_dask(command: Sequence[str]) -> bool:
    """Say whether a command line starts a part of Dask."""
    name = PurePosixPath(command[0]).name if command else ""
    if name.startswith("python") and "-m" in command[:-1]:
        module = command[command.index("-m") + 1]
        return module.partition(".")[0] in _DASK_MODULES
    return name in _DASK_PROGRAMS


def find_required(settings: Settings, *, dask: bool) -> dict[str, str]:
    """Return the packages that must be there, by normalised name, and who says so."""
    found = {canonicalize_name(name): "`tool.envboot.require`" for name in settings.require}
    return found | dict.fromkeys(DASK if dask else (), "Dask")


def refuse_missing(
    names: Collection[str], required: Mapping[str, str], reasons: Mapping[str, str]
) -> None:
    """Refuse to go on without a required package.

    `names` are normalised, `reasons` say why a package that is not among them stays here.

    Raises:
        LockError: naming every one that is missing.
    """
    missing = [name for name in required if name not in names]
    if missing:
        causes = (
            f"`{name}`: {required[name]} needs it, and it "
            + (f"stays here ({reasons[name]})" if name in reasons else "is not there")
            for name in missing[:LISTED]
        )
        raise LockError(
            f"Cannot go without {count(len(missing), 'package')}: {name_some(missing)}",
            causes=tuple(causes),
            hint="Install what is missing into the environment",
        )


def refuse_missing_in(
    base: Base, projects: Iterable[str], settings: Settings, *, dask: bool
) -> None:
    """Refuse to go on where a base and the layer's projects lack a required package.

    Raises:
        LockError: naming every one that is missing.
    """
    found: set[str] = {canonicalize_name(package.named.name) for package in base.conda}
    found |= {wheel.name for wheel in base.wheels}
    found |= {canonicalize_name(name) for name in projects}
    found |= {name for name, conda in _CONDA_NAMES.items() if conda in found}
    refuse_missing(found, find_required(settings, dask=dask), {})
