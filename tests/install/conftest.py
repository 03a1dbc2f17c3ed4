"""envboot as its users install it: a real wheel, in environments that have nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.indexes.program import find_uv

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
SOURCES = ("LICENSE", "README.md", "bootstrap", "provisioners", "pyproject.toml", "templates")


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """A fresh environment with envboot from its wheel; `added` is what its site-packages gained."""

    folder: Path
    wheel: Path
    added: frozenset[str]
    variables: Mapping[str, str]

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.folder / "venv/bin"

    @property
    def site(self) -> Path:
        """Its site-packages."""
        (found,) = (self.folder / "venv/lib").glob("python3*/site-packages")
        return found

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands in an empty directory."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            env={**self.variables, **variables},
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def python(self, code: str, **variables: str) -> str:
        """Run code in its interpreter, which must end well; returns what it printed."""
        done = self.run("python", "-c", code, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves its own files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCES:
        source, copy = ROOT / name, folder / "source" / name
        copy.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=unwanted)
        else:
            shutil.copy(source, copy)
    build = [find_uv(), "build", "-q", "--wheel", "--out-dir", "dist", "source"]
    subprocess.run(build, cwd=folder, check=True)
    (made,) = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The core alone: none of its extras."""
    folder = tmp_path_factory.mktemp("installed")
    unset = ("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables |= {"ENVBOOT_STATE_DIR": str(folder / "state"), "COLUMNS": "100"}
    uv = [find_uv(), "-q"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder / "venv")], check=True)
    made = Installed(folder=folder, wheel=wheel, added=frozenset(), variables=variables)
    before = {path.name for path in made.site.iterdir()}
    install = [*uv, "pip", "install", "--python", str(folder / "venv"), str(wheel)]
    subprocess.run(install, check=True)
    added = frozenset({path.name for path in made.site.iterdir()} - before)
    return Installed(folder=folder, wheel=wheel, added=added, variables=variables)
