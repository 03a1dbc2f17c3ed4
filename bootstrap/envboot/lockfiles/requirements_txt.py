"""`requirements.txt` with hashes: uv finds the files, the hashes say which ones may come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import Package

from envboot.lockfiles.compile import Requirements, compile_kept
from envboot.lockfiles.content import Content, LockFileRequest, refuse, refuse_names
from envboot.lockfiles.interpreters import choose_python
from envboot.lockfiles.pylock import parse_pylock
from envboot.lockfiles.requirements_grammar import read_lines
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from envboot.lockfiles.requirements_grammar import Line, RequirementsFile

_LOCK = "Lock it with `uv pip compile --generate-hashes`"


def read_requirements(request: LockFileRequest) -> Content:
    """Read requirements that are pinned with hashes, local and git ones aside.

    Raises:
        LockError: naming every requirement without a hash, or without a file that has it.
    """
    if request.names:
        refuse_names(request, request.names, [])
    given = read_lines(request, request.text)
    refuse_unhashed(request, given)
    python = choose_python(request)
    text = compile_kept(
        Requirements(
            lines=[line.text for line in given.lines],
            constraints=[line.text for line in given.constraints],
            file=request.file,
            configuration=given.configuration,
            options=given.options,
            alone=True,
        ),
        request.session,
        target=request.target,
        version=python.version,
        prefix=Path(request.interpreter.prefix),
        fresh=request.fresh,
    )
    return Content(
        python=python,
        packages=keep_hashed(request, parse_pylock(request, text).packages, given.sha256),
        notes=note_settings(given.lines),
        configuration=given.configuration,
    )


def refuse_unhashed(request: LockFileRequest, given: RequirementsFile) -> None:
    """Refuse a file that has a requirement without a sha256; every one is named."""
    offenders = [name for name, hashes in given.sha256.items() if not hashes]
    if offenders:
        refuse(request, *(f"`{name}` has no sha256" for name in offenders), hint=_LOCK)


def keep_hashed(
    request: LockFileRequest, packages: Sequence[Package], hashes: Mapping[str, AbstractSet[str]]
) -> list[Package]:
    """Return packages with only the files that have one of their hashes, where there are some."""
    kept, wrong = [], []
    for package in packages:
        wanted = hashes.get(package.name)
        found = _keep(package, wanted) if wanted else package
        if found:
            kept.append(found)
        else:
            wrong.append(f"`{package.name}`: no file for the target has one of its hashes")
    if wrong:
        refuse(request, *wrong, hint="Lock again with `uv pip compile --generate-hashes`")
    return kept


def note_settings(lines: Sequence[Line]) -> tuple[Problem, ...]:
    """Say whose build options are lost, should there be no wheel for the target."""
    message = (
        "Its build options (`--config-settings`, …) are not used: "
        "if there is no wheel for the target, it is built without them"
    )
    return tuple(
        Problem(subject=line.name or line.text, message=message) for line in lines if line.settings
    )


def _keep(package: Package, wanted: AbstractSet[str]) -> Package | None:
    """Return a package with only the files that have one of the hashes."""
    if package.is_direct:
        archive = package.archive
        return package if not archive or archive.hashes.get("sha256") in wanted else None
    wheels = [file for file in package.wheels or () if file.hashes.get("sha256") in wanted]
    sdist = package.sdist
    if sdist and sdist.hashes.get("sha256") not in wanted:
        sdist = None
    if not (wheels or sdist):
        return None
    return Package(name=package.name, version=package.version, wheels=wheels, sdist=sdist)
