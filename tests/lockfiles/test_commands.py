"""Whole commands: what is exported is taken by other tools, and by `--from`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.indexes.program import find_uv
from envboot.manifest import parse_manifest
from tests.channel import MINOR, NUMPY, ensure_channel, explicit_list
from tests.index import make_wheel, serve_folder, write_simple
from tests.layer.code import AARCH64, write
from tests.layer.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.manifest import Manifest

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
CONDA = ("python", "numpy", "tabulate")


class Desk:
    """A folder with a venv, a conda environment, and variables that know one index."""

    def __init__(self, home: Path, index: str, channel: str) -> None:
        self.home = home
        self.channel = channel
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ENVBOOT_CACHE_DIR": str(home / "cache"),
            "UV_CACHE_DIR": str(home / "uv"),
            "UV_DEFAULT_INDEX": f"{index}/simple",
            "PIP_INDEX_URL": f"{index}/simple",
            "PIP_CONFIG_FILE": "/dev/null",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command here, whatever comes of it."""
        return subprocess.run(
            command, env=self.variables, cwd=self.home, capture_output=True, text=True, check=False
        )

    def call(self, *command: str) -> str:
        """Run a command that must work; returns stdout."""
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def envboot(self, *arguments: str) -> str:
        """Run `envboot`, which must work."""
        return self.call(str(Path(sys.executable).with_name("envboot")), *arguments)

    def lock(self, *arguments: str) -> Manifest:
        """Run `envboot lock`; the active environment is the venv."""
        return parse_manifest(self.envboot("lock", *arguments))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Make both environments once."""
    home = tmp_path_factory.mktemp("desk")
    index = home / "index"
    index.mkdir()
    make_wheel(index, "demo", requires=["needed"])
    make_wheel(index, "needed")
    write_simple(index)
    write_project(home / "mine", "mine")
    made = ensure_channel()
    with serve_folder(index) as url, serve_folder(made.folder) as served:
        desk = Desk(home, url, f"{served}/conda")
        desk.call(find_uv(), "venv", "-q", "--python", sys.executable, "venv")
        desk.call(find_uv(), "pip", "install", "-q", "-p", "venv", "demo")
        (home / "list.txt").write_text(explicit_list(made, served, CONDA))
        create = [sys.executable, str(made.micromamba), "create", "--no-rc", "-y", "-q"]
        desk.variables["MAMBA_ROOT_PREFIX"] = str(home / "root")
        desk.call(*create, "-p", str(home / "conda"), "-f", "list.txt")
        desk.variables["VIRTUAL_ENV"] = str(home / "venv")
        yield desk


@pytest.mark.parametrize(
    ("kind", "file"), [("pylock", "pylock.toml"), ("requirements", "requirements.txt")]
)
def test_an_exported_venv_is_locked_as_the_same_base(desk: Desk, kind: str, file: str) -> None:
    desk.envboot("export", "--format", kind, "-o", file)
    wanted, found = desk.lock("--host-python"), desk.lock("--host-python", "--from", file)
    assert [wheel.name for wheel in found.base.wheels] == ["demo", "needed"]
    assert found.base_digest == wanted.base_digest
    assert desk.envboot("plan", "--host-python", "--from", file) == "2 same\n"


@pytest.mark.parametrize("kind", ["pylock", "requirements"])
def test_uv_installs_what_was_exported(desk: Desk, kind: str) -> None:
    file = "pylock.uv.toml" if kind == "pylock" else "uv.txt"
    (desk.home / file).write_text(desk.envboot("export", "--format", kind))
    place = f"by-uv-{kind}"
    desk.call(find_uv(), "venv", "-q", "--python", sys.executable, place)
    desk.call(find_uv(), "pip", "install", "-q", "--require-hashes", "-p", place, "-r", file)
    assert desk.call(f"{place}/bin/python", "-c", "import demo; print(demo.NAME)") == "demo\n"


def test_pip_installs_exported_requirements(desk: Desk) -> None:
    (desk.home / "pip.txt").write_text(desk.envboot("export", "--format", "requirements"))
    place = str(desk.home / "by-pip")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
    desk.call(*pip, "--target", place, "-r", "pip.txt")
    assert Path(place, "demo.py").is_file()


@pytest.mark.network
def test_pip_installs_an_exported_pylock(desk: Desk) -> None:
    (desk.home / "pylock.pip.toml").write_text(desk.envboot("export", "--format", "pylock"))
    # The first pip that reads it, in an environment of its own; with its usual configuration.
    place = str(desk.home / "newest-pip")
    command = [find_uv(), "venv", "-q", "--python", sys.executable, place]
    subprocess.run(command, check=True)
    subprocess.run([find_uv(), "pip", "install", "-q", "-p", place, "pip>=26.1"], check=True)
    desk.call(f"{place}/bin/python", "-m", "pip", "install", "-q", "-r", "pylock.pip.toml")
    assert desk.call(f"{place}/bin/python", "-c", "import demo; print(demo.NAME)") == "demo\n"


@pytest.mark.parametrize(
    ("kind", "file"), [("conda-explicit", "explicit.txt"), ("pixi", "pixi.lock")]
)
def test_an_exported_conda_environment_is_locked_as_the_same_base(
    desk: Desk, kind: str, file: str
) -> None:
    desk.envboot("export", "--python", "conda", "--format", kind, "-o", file)
    wanted, found = desk.lock("--python", "conda"), desk.lock("--from", file)
    assert len(found.base.conda) == len(CONDA)
    assert found.base_digest == wanted.base_digest


def test_an_exported_explicit_list_is_installed_by_py_rattler(desk: Desk) -> None:
    (desk.home / "manifest.json").write_text(desk.envboot("lock", "--python", "conda"))
    text = desk.envboot("export", "--manifest", "manifest.json", "--format", "conda-explicit")
    (desk.home / "again.txt").write_text(text)
    create = [sys.executable, str(ensure_channel().micromamba), "create", "--no-rc", "-y", "-q"]
    desk.call(*create, "-p", str(desk.home / "again"), "-f", "again.txt")
    shown = desk.call("again/bin/python", "-c", "import numpy; print(numpy.__version__)")
    assert shown == f"{NUMPY}\n"


def test_an_environment_file_is_solved_and_its_projects_are_built(desk: Desk) -> None:
    (desk.home / "environment.yml").write_text(
        f"channels: [{desk.channel}]\ndependencies: [python={MINOR}, numpy, pip: [demo, ./mine]]\n"
    )
    found = desk.lock("--from", "environment.yml")
    assert [wheel.name for wheel in found.base.wheels] == ["demo", "needed"]
    assert found.layer
    assert [project.name for project in found.layer.projects] == ["mine"]


def test_a_lock_file_is_read_only_when_it_is_named(desk: Desk) -> None:
    wanted = desk.lock("--host-python")
    for file in ("pylock.toml", "uv.lock", "pixi.lock", "environment.yml"):
        (desk.home / file).write_text("broken")
    assert desk.lock("--host-python") == wanted


def test_a_manifest_and_an_environment_are_not_both_taken(desk: Desk) -> None:
    command = ["export", "--format", "pylock", "--manifest", "m", "--python", "venv"]
    done = desk.run(str(Path(sys.executable).with_name("envboot")), *command)
    assert done.returncode == 118
    assert "error: Cannot take `--manifest` and choose an environment too" in done.stderr


def test_a_manifest_that_is_none_is_named(desk: Desk) -> None:
    (desk.home / "wrong.json").write_text("{}")
    program = str(Path(sys.executable).with_name("envboot"))
    done = desk.run(program, "export", "--format", "pylock", "--manifest", "wrong.json")
    assert done.returncode == 118
    assert "error: Cannot read manifest `wrong.json`\n  caused by: Expected" in done.stderr


def test_a_plan_refuses_loose_code_of_another_architecture(desk: Desk) -> None:
    write(desk.home / "loose", {"fast.so": AARCH64})
    program = str(Path(sys.executable).with_name("envboot"))
    done = desk.run("env", "PYTHONPATH=loose", program, "plan", "--python", "conda")
    assert (done.returncode, done.stdout) == (112, "")
    assert "error: Cannot run 1 of the loose extension modules on `linux-64`" in done.stderr


def test_an_export_that_would_hold_nothing_fails_with_the_way_out(desk: Desk) -> None:
    program = str(Path(sys.executable).with_name("envboot"))
    done = desk.run(program, "export", "--python", "conda", "--format", "requirements")
    assert (done.returncode, done.stdout) == (111, "")
    assert "error: Cannot export as `requirements`" in done.stderr
    assert "--format conda-explicit" in done.stderr
