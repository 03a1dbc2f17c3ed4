"""One launch of a folder that has everything people stumbled over; tests look at what arrived."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.indexes.program import find_uv
from tests.agent.conftest import parts, store
from tests.cache import make_cache
from tests.index import make_wheel, serve_folder, write_simple, write_uv
from tests.launch.workspace import EDITABLE, ENVBOOT, write_settings
from tests.layer.projects import commit_all, write_project

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["arrived", "folder", "parts", "store"]

PROGRAM = """\
import importlib, importlib.metadata, json, os, sys
from importlib import resources
def take(find):
    try:
        return find()
    except Exception as error:
        return repr(error)
def read(module, name):
    return take(lambda: getattr(importlib.import_module(module), name))
found = [os.path.join(place, name) for place, _, names in os.walk(sys.prefix) for name in names]
table = take(lambda: resources.files("numbers_of_mine").joinpath("table.csv").read_text())
print(json.dumps({
    "tiny-one": [importlib.metadata.version("tiny-one"), read("tiny_one", "NAME")],
    "values": {name: read(name, "VALUE") for name in ("first", "second", "same", "sub", "odd_app")},
    "data": table,
    "extension": take(lambda: read("numbers_of_mine._queue", "SimpleQueue").__name__),
    "files": sorted(os.path.relpath(path, sys.prefix) for path in found),
    "names": sorted(item.metadata["Name"] for item in importlib.metadata.distributions()),
}))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A user's folder; `work` is where commands are run."""

    work: Path
    variables: dict[str, str]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        return subprocess.run(
            words,
            cwd=self.work,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def envboot(self, *words: str, **variables: str) -> Any:
        """Run `envboot`, which must end well and print a document."""
        done = self.run(ENVBOOT, *words, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def launch(self, program: str = PROGRAM) -> Any:
        """Return what a program says on a machine."""
        said = self.envboot("launch", "local", "--json", "--", "python", "-c", program)
        return json.loads(said["instances"][0]["output"])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """An active environment, an editable project, loose code, and things that only look like it."""
    top = tmp_path_factory.mktemp("complaints") / "wörk & [space] %20+x"
    work, index = top / "app", top / "index"
    index.mkdir(parents=True)
    for name, version in (("tiny-one", "1.0"), ("tiny-one", "2.0"), ("Tiny.Two", "1.0")):
        make_wheel(index, name.lower().replace(".", "-"), version)
    write_simple(index)
    write_uv(index)
    _write_project(work)
    _write_bait(work)
    _write_repository(top / "repository")
    _write_loose(top)
    with serve_folder(index) as url:
        pyproject = (work / "pyproject.toml").read_text()
        write_settings(work, uv=(f"{url}/uv", index / "uv"))
        with (work / "pyproject.toml").open("a") as stream:
            stream.write(pyproject)
        made = Folder(
            work=work,
            variables={
                "PATH": os.environ["PATH"],
                "HOME": str(top),
                "GIT_CONFIG_GLOBAL": os.devnull,
                "PYTHONPATH": os.pathsep.join(str(top / name / "lib") for name in ("a", "b")),
                "PIP_CONFIG_FILE": os.devnull,
                "ENVBOOT_CACHE_DIR": make_cache(top / "cache"),
                "ENVBOOT_STATE_DIR": str(top / "state"),
                "UV_CACHE_DIR": str(top / "uv"),
                "UV_DEFAULT_INDEX": f"{url}/simple",
                "VIRTUAL_ENV": str(top / "venv"),
            },
        )
        git = f"git+{(top / 'repository').as_uri()}#subdirectory=packages/sub"
        for words in (
            ["venv", "-q", "--python", os.path.realpath(sys.executable), str(top / "venv")],
            ["pip", "install", "-q", "tiny-one==1.0", "tiny-two", "-e", str(work), f"sub @ {git}"],
        ):
            done = made.run(find_uv(), *words)
            assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture(scope="session")
def arrived(folder: Folder) -> Any:
    """What PROGRAM says on a machine."""
    return folder.launch()


def _write_project(work: Path) -> None:
    write_project(
        work,
        "odd_app",
        files={"src/odd_app/__init__.py": "VALUE = 'src'\n", "src/odd_app/data.txt": "data\n"},
        packages=("src/odd_app",),
    )
    with (work / "backend.py").open("a") as backend:
        hook = EDITABLE.replace("mine", "odd_app").replace("Path.cwd()}", "Path.cwd() / 'src'}")
        backend.write(hook)


def _write_bait(work: Path) -> None:
    """Write what lies about in many folders and says nothing about the active environment."""
    for stray in (work / "stray.egg-info", work / "src/stray.egg-info"):
        stray.mkdir()
        (stray / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 6.6\n")
    (work / "requirements.txt").write_text("tiny-one==2.0\n")
    lock = '[[package]]\nname = "tiny-one"\nversion = "2.0"\nsource = { virtual = "." }\n'
    (work / "uv.lock").write_text(f'version = 1\nrequires-python = ">=3.8"\n\n{lock}')
    (work / "pylock.toml").write_text('lock-version = "1.0"\ncreated-by = "x"\npackages = []\n')


def _write_repository(repository: Path) -> None:
    write_project(repository, "wrong", files={"wrong/__init__.py": "VALUE = 'root'\n"})
    sub = {"sub/__init__.py": "VALUE = 'subdirectory'\n"}
    write_project(repository / "packages/sub", "sub", files=sub)
    commit_all(repository)


def _write_loose(top: Path) -> None:
    """Write two folders of one base name, a package with data and an extension module in one."""
    for name, module in (("a", "first"), ("b", "second")):
        (top / name / "lib").mkdir(parents=True)
        (top / name / "lib" / f"{module}.py").write_text(f"VALUE = {module!r}\n")
        (top / name / "lib/same.py").write_text(f"VALUE = {name!r}\n")
    package = top / "b/lib/numbers_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "table.csv").write_text("1,2\n")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    shared = Path(sysconfig.get_config_var("DESTSHARED"))
    [extension] = shared.glob(f"_queue{suffix}")
    shutil.copy(extension, package)
