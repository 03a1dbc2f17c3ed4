"""Read what is in an environment, from inside its own interpreter and leaving nothing there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap.errors import ScanError
from bootstrap.scan.cuda import find_cuda
from bootstrap.scan.document import Scan, parse_scan, read_scan
from bootstrap.scan.loose import find_loose, list_places, take_places
from bootstrap.scan.makers import find_manager
from bootstrap.scan.sources import find_problems, find_sources
from bootstrap.scan.urls import strip_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bootstrap.scan.loose import Place

__all__ = ["find_python", "find_sources", "parse_scan", "scan", "scan_running"]

OLDEST = (3, 8)
PROBE = Path(__file__).with_name("probe") / "__main__.py"
SECONDS = 60
"""How long the probe may take; a folder of the path on a slow network takes a few."""

_PROGRAMS = ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe")
_VERSION = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
# All others could lead the probe away from what is installed. PYTHONPATH is reported instead.
_KEPT = ("PYTHONNOUSERSITE", "PYTHONUSERBASE")


def scan(
    python: str | None = None, *, environment: Mapping[str, str], folder: Path | None = None
) -> Scan:
    """Read the environment of `python`: a program, its name on PATH, or an environment's folder.

    Without one, it is the active environment of `environment` (the variables of the process:
    VIRTUAL_ENV, then CONDA_PREFIX), else the running interpreter. `folder` is the current one,
    whose code can be imported: None leaves it out. No URL of the result carries credentials.

    Raises:
        ScanError: there is no such interpreter, it is older than Python 3.8, or it failed.
    """
    document = _run_probe(find_python(python, environment), environment)
    places, provided = take_places(document)
    before = list_places(folder, environment)
    return _finish(document, [*before, *places], provided, environment)


def scan_running(path: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> Scan:
    """Read the running interpreter's own environment, whichever one is active.

    `path` is its `sys.path`: what has been put on it counts as loose code. `folder` is the
    current one.

    Raises:
        ScanError: the interpreter cannot be started again.
    """
    from bootstrap.scan.here import split_path

    document = _run_probe(sys.executable, environment)
    places, provided = take_places(document)
    before, behind = split_path(path, folder, places)
    return _finish(document, [*before, *places, *behind], provided, environment)


def _finish(
    document: Any,
    places: Sequence[Place],
    provided: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
) -> Scan:
    """Read the probe's document, and add what can be told from outside."""
    strip_document(document)
    found = read_scan(document)
    loose, problems = find_loose(found, places, provided, environment=environment)
    return replace(
        found,
        manager=find_manager(found),
        cuda=find_cuda(),
        loose=loose,
        problems=(*found.problems, *find_problems(found), *problems),
    )


def find_python(python: str | None, environment: Mapping[str, str]) -> str:
    """Return the absolute path of the interpreter that `scan` runs; links are not followed."""
    if python is None:
        for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            if environment.get(variable):
                return _find_program(Path(environment[variable]), f" (`{variable}`)")
        return sys.executable
    path = Path(python).expanduser()
    if path.is_dir():
        return _find_program(path, "")
    if path.name == python and not path.exists():
        from shutil import which  # 4 ms that few scans need

        on_path = which(python, path=environment.get("PATH"))
        if on_path is None:
            raise ScanError(f"Python `{python}` was not found on PATH")
        return on_path
    if not path.exists():
        raise ScanError(f"Python `{python}` was not found")
    return str(path.absolute())


def _find_program(folder: Path, origin: str) -> str:
    for program in _PROGRAMS:
        if os.path.lexists(folder / program):
            return str((folder / program).absolute())
    seen = "has no `bin/python`" if folder.is_dir() else "was not found"
    raise ScanError(
        f"Environment `{folder}`{origin} {seen}",
        hint="Activate another environment, or name one with `--python`",
    )


def _run_probe(executable: str, environment: Mapping[str, str]) -> Any:
    """Return the probe's document; the last line of stdout, whatever start-up files print."""
    done = _run([executable, "-X", "utf8", str(PROBE)], environment)
    if done.returncode == 0:
        for line in reversed(done.stdout.splitlines()):
            if line.startswith(b'{"scan_version"'):
                return json.loads(line)
    version = _ask_version(executable, environment)
    if version is None:
        raise ScanError(f"`{executable}` is not a Python interpreter", causes=_last_lines(done))
    if version < OLDEST:
        wanted, seen = (".".join(map(str, numbers)) for numbers in (OLDEST, version))
        raise ScanError(f"Expected Python {wanted} or later, found {seen} at `{executable}`")
    raise ScanError(f"Failed to scan `{executable}`", causes=_last_lines(done))


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    variables = {
        name: value
        for name, value in environment.items()
        if not name.startswith("PYTHON") or name in _KEPT
    }
    try:
        return subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        # The file was there: a link or a script whose target is gone.
        raise ScanError(
            f"`{command[0]}` leads to a Python that is gone",
            causes=(str(error),),
            hint="Make the environment again",
        ) from error
    except PermissionError as error:
        raise ScanError(f"`{command[0]}` is not executable", causes=(str(error),)) from error
    except OSError as error:
        raise ScanError(
            f"`{command[0]}` is not a Python interpreter", causes=(str(error),)
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ScanError(f"`{command[0]}` did not answer within {SECONDS} s") from error


def _ask_version(executable: str, environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the version of any Python ever made, None where the program is none."""
    done = _run([executable, "-c", _VERSION], environment)
    numbers = done.stdout.decode(errors="replace").rpartition("\n")[2].split(".")
    if done.returncode or not all(number.isdecimal() for number in numbers):
        return None
    return tuple(map(int, numbers))


def _last_lines(done: subprocess.CompletedProcess[bytes]) -> tuple[str, ...]:
    """Return what a failed program said last, the deepest cause of a traceback."""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
    return tuple(line for line in lines if line)[-3:] or (f"Exit code {done.returncode}",)
