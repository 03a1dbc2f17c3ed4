"""A user's project: an environment with Dask, envboot, and two packages that are only here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tests.cache import make_cache
from tests.channel import CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).parents[2]
_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"

[tool.setuptools]
packages = ["{name}"]
"""
SHOP = """\
FACTOR = {factor}


def price(number):
    return FACTOR * number
"""
TAXES = """\
def add_tax(amount):
    return amount + 1
"""
IDENTITY = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """The folder of a user who makes clusters; `python` is the environment's interpreter."""

    folder: Path
    python: Path
    variables: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where the machines of this machine are."""
        return self.folder / "state"

    @property
    def bucket(self) -> Path:
        """The user's own bucket."""
        return self.state / "store"

    def write_shop(self, factor: int) -> None:
        """Edit the package that is installed in place."""
        (self.folder / "shop/shop/__init__.py").write_text(SHOP.format(factor=factor))

    def run(self, code: str, *, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a script of the user's in the environment; it may fail."""
        script = self.folder / "work" / "script.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(textwrap.dedent(code))
        return subprocess.run(
            [self.python, script],
            cwd=script.parent,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ask(self, code: str, *, timeout: float = 600) -> Any:
        """Run a script that must end well; returns the JSON that it printed last."""
        done = self.run(code, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def envboot(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `envboot …` from the environment; it must end with `code`."""
        done = subprocess.run(
            [self.python.parent / "envboot", *words],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def machines(self) -> list[Path]:
        """Return the folders of the machines that have not been ended."""
        return sorted((self.state / "local").glob("*/*"))

    def processes(self) -> list[str]:
        """Return the command lines of everything that runs on a machine of this project."""
        mark = f"ENVBOOT_ROOT={self.state}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


def make_project(folder: Path) -> Project:
    """Make the project and its environment."""
    python = folder / ".venv/bin/python"
    # Without byte code of its own, what runs here would be slower than what runs on machines.
    unset = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    variables = {name: value for name, value in os.environ.items() if name not in unset} | {
        "ENVBOOT_STATE_DIR": str(folder / "state"),
        "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
        "VIRTUAL_ENV": str(folder / ".venv"),
        # Slow machines are slow to connect: only what hangs is to be told.
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s",
    }
    project = Project(folder=folder, python=python, variables=variables)
    for name, text in (("shop", SHOP.format(factor=1)), ("taxes", TAXES)):
        (folder / name / name).mkdir(parents=True)
        (folder / name / "pyproject.toml").write_text(_PYPROJECT.format(name=name))
        (folder / name / name / "__init__.py").write_text(text)
    for words in (["init", "-q", "."], ["add", "."], [*IDENTITY, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder / "taxes", check=True)
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder / ".venv"], check=True)
    wanted = ["--editable", str(folder / "shop"), f"git+file://{folder / 'taxes'}"]
    wanted += ["--editable", f"{REPOSITORY}[dask]", "bokeh", "ipykernel", "ipywidgets"]
    with FileLock(CACHE / "dask.lock"):
        install = [*uv, "pip", "install", "-q", "--python", str(python), *wanted]
        subprocess.run(install, check=True)
    return project
