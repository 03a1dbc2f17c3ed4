"""The interpreter that is asked, and the probe's answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot.errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = (3, 8)
PROBE = Path(__file__).with_name("probe") / "__main__.py"
SECONDS = 60
"""How long the probe may take; a folder of the path on a slow network takes a few."""

ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")
"""The variables that name the active environment."""

_PROGRAMS = ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe")
_FULL_VERSION = "import platform, sys; sys.stdout.write(platform.python_version())"
_VERSION = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
# All others could lead the probe away from what is installed. PYTHONPATH is reported instead.
_KEPT = ("PYTHONNOUSERSITE", "PYTHONUSERBASE")


class Probe:
    """The probe, running in an interpreter; what takes time here can be done meanwhile."""

    def __init__(self, executable: str, environment: Mapping[str, str]) -> None:
        self._executable = executable
        self._environment = environment
        command = [executable, "-X", "utf8", str(PROBE)]
        self._process = _start(command, environment)

    def read(self) -> Any:
        """Return its document: the last line of stdout, whatever start-up files print.

        Raises:
            ScanError: it is no Python, is too old, or failed.
        """
        done = _finish(self._process, self._executable)
        if done.returncode == 0:
            for line in reversed(done.stdout.splitlines()):
                if line.startswith(b'{"scan_version"'):
                    return json.loads(line)
        executable = self._executable
        version = _ask_version(executable, self._environment)
        if version is None:
            raise ScanError(f"`{executable}` is not a Python interpreter", causes=_last_lines(done))
        if version < OLDEST:
            wanted, seen = (".".join(map(str, numbers)) for numbers in (OLDEST, version))
            raise ScanError(f"Expected Python {wanted} or later, found {seen} at `{executable}`")
        raise ScanError(f"Failed to scan `{executable}`", causes=_last_lines(done))


def find_python(python: str | None, environment: Mapping[str, str]) -> str:
    """Return the absolute path of the interpreter that `scan` runs; links are not followed."""
    if python is None:
        for variable in ACTIVE:
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


def read_version(executable: str, environment: Mapping[str, str]) -> str | None:
    """Return the version of an interpreter, as `3.11.7`; None where it is none."""
    command = [executable, "-I", "-S", "-c", _FULL_VERSION]
    try:
        done = _finish(_start(command, environment), executable)
    except ScanError:
        return None
    found = done.stdout.decode(errors="replace").rpartition("\n")[2]
    return None if done.returncode or not found else found


def _find_program(folder: Path, origin: str) -> str:
    for program in _PROGRAMS:
        if os.path.lexists(folder / program):
            return str((folder / program).absolute())
    seen = "has no `bin/python`" if folder.is_dir() else "was not found"
    hint = "Activate another environment, or name one with `--python`"
    if (folder / ".venv").is_dir():
        hint = f"Its own environment is `{folder / '.venv'}`"
    raise ScanError(f"Environment `{folder}`{origin} {seen}", hint=hint)


def _start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    variables = {
        name: value
        for name, value in environment.items()
        if not name.startswith("PYTHON") or name in _KEPT
    }
    try:
        return subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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


def _finish(
    process: subprocess.Popen[bytes], executable: str
) -> subprocess.CompletedProcess[bytes]:
    with process:
        try:
            stdout, stderr = process.communicate(timeout=SECONDS)
        except BaseException as error:
            process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise ScanError(f"`{executable}` did not answer within {SECONDS} s") from error
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _ask_version(executable: str, environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the version of any Python ever made, None where the program is none."""
    done = _finish(_start([executable, "-c", _VERSION], environment), executable)
    numbers = done.stdout.decode(errors="replace").rpartition("\n")[2].split(".")
    if done.returncode or not all(number.isdecimal() for number in numbers):
        return None
    return tuple(map(int, numbers))


def _last_lines(done: subprocess.CompletedProcess[bytes]) -> tuple[str, ...]:
    """Return what a failed program said last, the deepest cause of a traceback."""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
    return tuple(line for line in lines if line)[-3:] or (f"Exit code {done.returncode}",)
