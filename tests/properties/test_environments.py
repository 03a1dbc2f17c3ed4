"""One environment, made twice in two ways: the manifest of both is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from tests.index import make_wheel, serve_folder, write_simple
from tests.layer.projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

PACKAGES = ("alpha", "beta", "gamma")
ENVBOOT = str(Path(sys.executable).with_name("envboot"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An index on loopback that has every package."""
    folder = tmp_path_factory.mktemp("index")
    for name in PACKAGES:
        make_wheel(folder, name)
    write_simple(folder)
    with serve_folder(folder) as url:
        yield f"{url}/simple"


def make(folder: Path, index: str, order: tuple[str, ...], **variables: str) -> dict[str, str]:
    """Make an environment with three packages and a project; returns the variables for it."""
    (folder / "work").mkdir(parents=True)
    project = write_project(folder / "my project", "mine")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ENVBOOT_CACHE_DIR": str(folder / "cache"),
        "UV_CACHE_DIR": str(folder / "uv"),
        "UV_DEFAULT_INDEX": index,
        **variables,
    }
    python = str(folder / "env" / "bin" / "python")
    commands = [["venv", "-q", "--python", sys.executable, str(folder / "env")]]
    commands += [["pip", "install", "-q", "-p", python, name] for name in order]
    commands += [["pip", "install", "-q", "-p", python, str(project.path)]]
    for command in commands:
        subprocess.run([find_uv_bin(), *command], env=environment, cwd=folder, check=True)
    (folder / "work" / "script.py").write_text("import helper\n")
    (folder / "work" / "helper.py").write_text("X = 1\n")
    return environment


def lock(folder: Path, environment: dict[str, str], umask: int) -> bytes:
    """Return the manifest as `envboot lock` prints it in the working folder."""
    done = subprocess.run(
        [ENVBOOT, "lock", "--host-python", "--python", str(folder / "env")],
        env=environment,
        cwd=folder / "work",
        umask=umask,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_the_manifest_does_not_depend_on_place_order_locale_time_zone_umask_or_hash_seed(
    tmp_path: Path, index: str
) -> None:
    one = tmp_path / "one"
    first = lock(one, make(one, index, PACKAGES, PYTHONHASHSEED="1", LC_ALL="C"), 0o022)
    two = tmp_path / "another place" / "two"
    variables = {"PYTHONHASHSEED": "77", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Auckland"}
    environment = make(two, index, PACKAGES[::-1], **variables)
    for path in two.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1_000_000_000, 1_000_000_000))
    assert lock(two, environment, 0o077) == first
    # Other content is another manifest, whatever its name and version.
    (two / "work" / "helper.py").write_text("X = 2\n")
    assert lock(two, environment, 0o077) != first
