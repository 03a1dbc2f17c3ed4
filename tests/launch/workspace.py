"""A user's folder to launch from: an environment, an editable project, an index on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot.indexes.program import find_uv
from tests.cache import make_cache
from tests.index import make_wheel, serve_folder, write_simple, write_uv
from tests.layer.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVBOOT = str(Path(sys.executable).with_name("envboot"))
EDITABLE = """

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    info = "mine-1.0.dist-info"
    with zipfile.ZipFile(Path(wheel_directory, "mine-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("mine.pth", f"{Path.cwd()}\\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n")
        tag = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\\nGenerator: tiny\\n{tag}")
        wheel.writestr(f"{info}/RECORD", "")
    return "mine-1.0-py3-none-any.whl"
"""
PROGRAM = "import mine, tiny_one; print(mine.VALUE, tiny_one.NAME)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Everything is below `folder`; `python` is the environment's folder."""

    folder: Path
    variables: dict[str, str]
    python: Path

    @property
    def state(self) -> Path:
        """Where instances and, unless told otherwise, the bucket are."""
        return self.folder / "state"

    @property
    def index(self) -> Path:
        """The folder that is served as an index of wheels."""
        return self.folder / "index"

    def command(self, *arguments: str, instances: str = "local") -> list[str]:
        """Return the words of a launch."""
        return [ENVBOOT, "launch", instances, "--python", str(self.python), *arguments]

    def launch(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Launch on `local` and wait."""
        return self.run(*self.command(*arguments), **variables)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the user's folder."""
        return subprocess.run(
            words,
            env={**self.variables, **variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
            check=False,
        )

    def launch_json(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """Launch with `--json`; it must end well."""
        done = self.launch("--json", *arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a program in a process group of its own, as a shell does; Ctrl-C reaches it."""
        return subprocess.Popen(
            words,
            env=self.variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Popen's `process_group` came with Python 3.11.
            preexec_fn=os.setpgrp,
        )

    def survivors(self) -> list[str]:
        """Return the command lines of live processes that have to do with this folder."""
        return [line for line in map(self._describe, Path("/proc").glob("[0-9]*")) if line]

    def _describe(self, process: Path) -> str:
        mark = os.fsencode(f"{self.state}/local/")
        try:
            line, environ = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            return ""
        ours = mark in line or (line and mark in environ)
        return line.replace(b"\0", b" ").decode(errors="replace") if ours else ""

    def leftovers(self) -> list[str]:
        """Return what instances left, and what is half-written in the bucket."""
        found = [*self.state.glob("local/*"), *self.state.glob("store/**/.envboot-*")]
        return [str(path.relative_to(self.state)) for path in found if path.name != ".envboot-key"]


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.04)


def write_settings(folder: Path, **tools: tuple[str, Path]) -> None:
    """Write a pyproject.toml that pins tools: name to URL and the file that is served there."""
    lines = []
    for name, (url, path) in tools.items():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        lines += [f"[tool.envboot.tools.{name}]", 'version = "1.0"', f'url = "{url}"']
        lines += [f'sha256 = "{sha256}"']
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")


def write_value(folder: Path, value: int) -> None:
    """Write the editable project with a value in it."""
    project = folder / "projét"
    write_project(project, "mine", files={"mine/__init__.py": f"VALUE = {value}\n"})
    with (project / "backend.py").open("a") as backend:
        backend.write(EDITABLE)


@contextmanager
def open_workspace(folder: Path) -> Iterator[Workspace]:
    """Make the environment, as a user would with uv, and serve the index until the end."""
    index = folder / "index"
    index.mkdir(parents=True)
    for name in ("tiny-one", "tiny-two"):
        make_wheel(index, name)
    write_simple(index)
    uv = write_uv(index)
    write_value(folder, 1)
    with serve_folder(index) as url:
        write_settings(folder, uv=(f"{url}/uv", uv))
        workspace = Workspace(
            folder=folder,
            variables={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
                "ENVBOOT_STATE_DIR": str(folder / "state"),
                "UV_CACHE_DIR": str(folder / "uv"),
                "UV_DEFAULT_INDEX": f"{url}/simple",
            },
            python=folder / "venv",
        )
        install = ["pip", "install", "-q", "-p", "venv"]
        for words in (
            ["venv", "-q", "--python", sys.executable, "venv"],
            [*install, "tiny-one", "tiny-two", "-e", str(folder / "projét")],
        ):
            done = workspace.run(find_uv(), *words)
            assert done.returncode == 0, done.stderr
        yield workspace
