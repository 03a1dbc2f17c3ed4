"""Real environments for the scan's tests, made and filled without a network where that can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from envboot.scan import scan

if TYPE_CHECKING:
    from envboot.scan.schema import Distribution, Scan


def find_pythons(*minors: int) -> list[str]:
    """Return the interpreters of this machine: the running one, on PATH, and pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found: dict[int, str] = {}
    for minor in minors:
        name = f"python3.{minor}"
        places = [shutil.which(name), *sorted(map(str, root.glob(f"versions/*/bin/{name}")))]
        # A shim is a shell script that runs whatever `pyenv global` says.
        real = [place for place in places if place and "shims" not in Path(place).parts]
        if real:
            found[minor] = real[0]
    if sys.version_info.minor in minors:
        found[sys.version_info.minor] = sys.executable
    return list(found.values())


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run a program that must succeed and return its stdout."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_venv(folder: Path, python: str = sys.executable) -> Path:
    """Make a venv without pip."""
    run(python, "-m", "venv", "--without-pip", folder)
    return folder


def install(prefix: Path, *arguments: str | Path) -> None:
    """Install with uv, offline, into an environment."""
    python = prefix / "bin" / "python"
    run(find_uv_bin(), "pip", "install", "-q", "--no-index", "--python", python, *arguments)


def site_packages(prefix: Path) -> Path:
    """Return the one site-packages folder of an environment."""
    (found,) = prefix.glob("lib/python3*/site-packages")
    return found


def scan_prefix(prefix: Path, **environment: str) -> Scan:
    """Scan an environment; `environment` is beside PATH all that the probe's process has."""
    variables = {"PATH": os.environ["PATH"], **environment}
    return scan(str(prefix), environment=variables, folder=Path.cwd(), loose=False)


def find(found: Scan, name: str) -> Distribution:
    """Return the one distribution of that name."""
    (item,) = (item for item in found.distributions if item.name == name)
    return item


def complaints(found: Scan, subject: str) -> list[str]:
    """Return the problems of one subject."""
    return [problem.message for problem in found.problems if problem.subject == subject]
