"""The interpreter that is asked, and the probe's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot import process
from envboot.errors import ScanError
from envboot.tool_variables import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = (3, 8)
PROBE = Path(__file__).with_name("probe") / "__main__.py"
SECONDS = 60
"""How long the probe may take; a folder of the path on a slow network takes a few."""

_FULL_VERSION = "import platform, sys; sys.stdout.write(platform.python_version())"
_VERSION = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
# All others could lead the probe away from what is installed. PYTHONPATH is reported instead.
_KEPT = ("PYTHONNOUSERSITE", "PYTHONUSERBASE")


class Probe:
    """The probe, running in an interpreter; what takes time here can be done meanwhile."""

    def __init__(self, executable: str, environment: Mapping[str, str], folder: Path) -> None:
        self._executable = executable
        self._environment = environment
        self._folder = folder
        command = [executable, "-X", "utf8", str(PROBE)]
        self._running = _start(command, environment, folder)

    def read(self) -> Any:
        """Return its document: the last line of stdout, whatever start-up files print.

        Raises:
            ScanError: it is no Python, does not start, is too old, or failed.
        """
        done = _finish(self._running, self._executable)
        if done.code == 0:
            for line in reversed(done.stdout.splitlines()):
                if line.startswith(b'{"scan_version"'):
                    return json.loads(line)
        executable = self._executable
        version = _ask_version(executable, self._environment, self._folder)
        if version is None and self._starts_without_site():
            raise ScanError(
                f"`{executable}` does not start",
                causes=done.last_errors(3),
                hint="A start-up file fails, such as a `.pth` file in its site-packages",
            )
        if version is None:
            raise ScanError(
                f"`{executable}` is not a Python interpreter", causes=done.last_errors(3)
            )
        if version < OLDEST:
            wanted, seen = (".".join(map(str, numbers)) for numbers in (OLDEST, version))
            raise ScanError(f"Expected Python {wanted} or later, found {seen} at `{executable}`")
        raise ScanError(f"Failed to scan `{executable}`", causes=done.last_errors(3))

    def _starts_without_site(self) -> bool:
        found = read_version(self._executable, self._environment, self._folder)
        return bool(found and found[0].isdecimal())


def read_version(executable: str, environment: Mapping[str, str], folder: Path) -> str | None:
    """Return the version of an interpreter, as `3.11.7`; None where it is none."""
    command = [executable, "-I", "-S", "-c", _FULL_VERSION]
    try:
        done = _finish(_start(command, environment, folder), executable)
    except ScanError:
        return None
    found = done.text.rpartition("\n")[2]
    return None if done.code or not found else found


def _start(command: list[str], environment: Mapping[str, str], folder: Path) -> process.Running:
    try:
        return process.start(
            command,
            # Whatever the interpreter's file is called.
            environment=clean_environment("python", environment),
            folder=folder,
            variables={name: environment[name] for name in _KEPT if name in environment},
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


def _finish(running: process.Running, executable: str) -> process.Completed:
    try:
        return running.finish(timeout=SECONDS)
    except TimeoutError as error:
        raise ScanError(f"`{executable}` did not answer within {SECONDS} s") from error


def _ask_version(
    executable: str, environment: Mapping[str, str], folder: Path
) -> tuple[int, ...] | None:
    """Return the version of any Python ever made, None where the program is none."""
    done = _finish(_start([executable, "-c", _VERSION], environment, folder), executable)
    numbers = done.text.rpartition("\n")[2].split(".")
    if done.code or not all(number.isdecimal() for number in numbers):
        return None
    return tuple(map(int, numbers))
