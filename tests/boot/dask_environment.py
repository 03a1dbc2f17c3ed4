"""An environment with Dask, envboot and code of one's own, as a client of a cluster has it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from packaging.requirements import Requirement

from envboot.indexes.program import find_uv
from tests.boot.environment import make_environment
from tests.channel import CACHE, ensure_channel
from tests.conformance.kit import SETUPTOOLS
from tests.index import read_wheels, write_simple
from tests.layer.projects import commit_all, write_project

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]
DASK = ("dask", "distributed", "cryptography")
SHOP = """\
from stock import COUNTS

PRICE = 2


def total(name):
    return PRICE * COUNTS[name]
"""
STOCK = 'COUNTS = {"apple": 3, "pear": 4}\n'
_SHOP_PROJECT = f"""\
[build-system]
requires = ["{SETUPTOOLS}"]
build-backend = "setuptools.build_meta"

[project]
name = "shop"
version = "1.0"
dependencies = ["stock"]

[tool.setuptools]
packages = ["shop"]
"""


def make_dask_environment(
    folder: Path,
    channel: str,
    run: Callable[[list[str]], object],
    *,
    loopback: str = "127.0.0.1",
) -> Path:
    """Make a conda prefix with Dask and envboot in it, and two packages that no index has.

    `shop` is editable, in `folder`/projects/shop, and imports `stock`, which comes from a git
    repository; envboot is editable too. All else comes from an index beside the channel at
    `channel`, so machines that reach that have theirs. `folder` becomes a user's project, as
    `make_environment` makes it. Where there is no other network, `ensure_dask_wheels` must have
    been called before.
    """
    prefix = make_environment(folder, channel, run, loopback=loopback)
    index = f"{channel}/{ensure_dask_wheels().name}/simple"
    # Not in `folder` itself: a project's folder there would be a module of its name.
    write_shop(folder / "projects/shop")
    commit = write_stock(folder / "projects/stock")
    # It decides for `uv pip` here, for the lock, and so for the machines.
    table = f"\n[[tool.uv.index]]\nurl = {json.dumps(index)}\ndefault = true\n"
    with (folder / "pyproject.toml").open("a") as stream:
        stream.write(table)
    install = [find_uv(), "pip", "install", "-q", "--break-system-packages"]
    projects = ["-e", f"{REPOSITORY}[aws]", "-e", str(folder / "projects/shop")]
    projects.append(f"stock @ git+file://{folder}/projects/stock@{commit}")
    run([*install, "--python", str(prefix), *DASK, *projects])
    return prefix


def ensure_dask_wheels() -> Path:
    """Return a folder of the channel's with wheels of Dask and envboot's needs, and an index.

    They are downloaded once, and again when envboot needs something else.
    """
    needs = map(Requirement, importlib.metadata.requires("envboot") or ())
    ours = [each for each in needs if _is_needed(each)]
    wanted = [*DASK, SETUPTOOLS, *(f"{each.name}{each.specifier}" for each in ours)]
    digest = hashlib.sha256("\n".join([Path(__file__).read_text(), *wanted]).encode()).hexdigest()
    folder = ensure_channel().folder / f"dask-{digest[:12]}"
    with FileLock(CACHE / "dask.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as work:
                made = Path(work) / "dask"
                _download(made, wanted)
                made.rename(folder)
    return folder


def _is_needed(need: Requirement) -> bool:
    """Whether `envboot[aws]` needs it here."""
    marker = need.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", "aws"))


def _download(folder: Path, wanted: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", f"--dest={folder}"]
    command.append("--only-binary=:all:")
    subprocess.run([*command, *wanted], check=True)
    # Beside the wheel for this machine's glibc the one for that which VMs are sure to have.
    older = ["--no-deps", "--platform=manylinux_2_28_x86_64"]
    pin = f"cryptography=={read_wheels(folder)['cryptography'].version}"
    subprocess.run([*command, *older, pin], check=True)
    write_simple(folder)


def write_shop(folder: Path, text: str = SHOP) -> None:
    """Write the project `shop`, whose module `shop` has `text`."""
    (folder / "shop").mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(_SHOP_PROJECT)
    (folder / "shop/__init__.py").write_text(text)


def write_stock(folder: Path) -> str:
    """Write the repository of the project `stock`; returns its commit."""
    write_project(folder, "stock", files={"stock/__init__.py": STOCK})
    return commit_all(folder)
