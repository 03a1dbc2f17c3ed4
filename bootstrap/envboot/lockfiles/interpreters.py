"""Which Python a lock file or manifest is for, and which one of this machine that can be."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from envboot import process
from envboot.errors import LockError, UsageError
from envboot.indexes.program import find_uv
from envboot.manifest import Python

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from envboot.lockfiles.content import LockFileRequest
    from envboot.manifest import Manifest
    from envboot.scan.schema import Interpreter
    from envboot.session import Session

_EXACT = re.compile(r"===?\s*(\d+\.\d+\.\d+\S*)")


def choose_python(request: LockFileRequest, requires: SpecifierSet | None = None) -> Python:
    """Choose the Python of a lock file that has none itself: the active one, if it may be.

    Else the exact version that the file names, else what uv finds on this machine.

    Raises:
        LockError: none of this machine's will do.
    """
    version, executable = request.interpreter.version, request.interpreter.base_executable
    host = request.target.host_python
    if not _is_usable(request.interpreter, requires):
        exact = _EXACT.fullmatch(str(requires or ""))
        if exact and not host:
            return Python(version=exact[1], source="conda")
        wanted = str(requires or "").replace(" ", "") or ">=3"
        session = request.session
        version, executable = _ask_uv(wanted, session, "--show-version"), _ask_uv(wanted, session)
        if not (version and executable):
            raise LockError(
                f"`{request.file}` wants Python `{wanted}`, "
                f"found {request.interpreter.implementation} {request.interpreter.version}",
                hint="Name another interpreter with `--python`, "
                "or install one with `uv python install`",
            )
    if host:
        return Python(version=version, source="host", executable=os.path.realpath(executable))
    return Python(version=version, source="conda")


def find_builder(python: Python, interpreter: Interpreter, session: Session) -> str:
    """Return the interpreter that builds the projects: of the lock's minor version.

    Raises:
        LockError: this machine has none.
    """
    minor = ".".join(interpreter.version.split(".")[:2])
    if minor == python.minor and interpreter.implementation.lower() == "cpython":
        return interpreter.executable
    found = _ask_uv(python.minor, session)
    if not found:
        raise LockError(
            f"Cannot build projects for Python {python.minor}: "
            f"found {interpreter.implementation} {interpreter.version}",
            hint=f"Install one with `uv python install {python.minor}`, or name it with `--python`",
        )
    return found


def check_interpreter(manifest: Manifest, session: Session, *, host_python: bool) -> None:
    """Refuse a manifest of a host's own interpreter where it is not there, or is another."""
    python = manifest.base.python
    if python.source == "conda":
        return
    if not host_python or python.executable is None:
        raise UsageError(
            "Cannot bring an environment to other machines that names a host's own interpreter",
            causes=(f"`{python.executable}`",),
            hint="Lock without `--host-python`, so that the interpreter comes from a conda channel",
        )
    from envboot.scan.running import read_version

    found = read_version(python.executable, session.environment, session.folder)
    if found != python.version:
        raise UsageError(
            f"Expected Python {python.version} at `{python.executable}`, found "
            + (found or "none"),
            hint="Lock again on this machine, or without `--host-python`",
        )


def _is_usable(interpreter: Interpreter, requires: SpecifierSet | None) -> bool:
    if interpreter.implementation.lower() != "cpython":
        return False
    return requires is None or requires.contains(interpreter.version, prereleases=True)


def _ask_uv(wanted: str, session: Session, *options: str) -> str:
    """Ask uv for a CPython on this machine; empty where there is none."""
    # With `--quiet`, uv prints no path either.
    command = [find_uv(), "python", "find", "--no-project", "--no-python-downloads"]
    done = process.run(
        [*command, *options, f"cpython{'' if wanted[0] in '<>=!~' else '@'}{wanted}"],
        environment=session.environment,
        folder=session.folder,
    )
    return done.text.strip() if done.code == 0 else ""
