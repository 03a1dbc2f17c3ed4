"""Which program made an environment, and which CUDA its machine runs."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from envboot.scan.cuda import find_cuda
from envboot.scan.makers import find_manager
from tests.scan.test_document import INTERPRETER, SCAN

if TYPE_CHECKING:
    from pathlib import Path

VIRTUALENV = "home = /usr/bin\nvirtualenv = 20.1\n"


def maker(
    prefix: Path, files: dict[str, str], kind: Literal["conda", "venv", "system"] = "venv"
) -> str | None:
    for name, text in files.items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("PREFIX", str(prefix)))
    interpreter = replace(INTERPRETER, prefix=str(prefix))
    return find_manager(replace(SCAN, kind=kind, interpreter=interpreter))


@pytest.mark.parametrize(
    ("place", "files", "expected"),
    [
        ("v", {"pyvenv.cfg": "home = /usr/bin\ncommand = python -m venv uv\n"}, "venv"),
        ("v", {"pyvenv.cfg": "home = /usr/bin\nuv = 0.9.0\n"}, "uv"),
        ("v", {"pyvenv.cfg": VIRTUALENV}, "virtualenv"),
        ("pypoetry/virtualenvs/mine-x-py3.11", {"pyvenv.cfg": VIRTUALENV}, "poetry"),
        (".venv", {"pyvenv.cfg": VIRTUALENV, "../poetry.lock": ""}, "poetry"),
        (".venv", {"pyvenv.cfg": "uv = 0.9.0\n", "../poetry.lock": ""}, "uv"),
        ("v", {"pyvenv.cfg": VIRTUALENV, ".project": "/home/me/project"}, "pipenv"),
        (".venv", {"pyvenv.cfg": VIRTUALENV, "../.pdm-python": "PREFIX/bin/python"}, "pdm"),
        (".venv", {"pyvenv.cfg": VIRTUALENV, "../.pdm-python": "/usr/bin/python"}, "virtualenv"),
        ("pdm/venvs/mine-x-3.11", {"pyvenv.cfg": VIRTUALENV}, "pdm"),
    ],
)
def test_the_maker_of_a_virtual_environment_is_told_by_what_it_leaves(
    place: str, files: dict[str, str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert maker(tmp_path / place, files) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/opt/my conda/bin/conda create -n x", "conda"),
        ("C:\\conda\\Scripts\\conda-script.py create", "conda"),
        ("/opt/mambaforge/bin/mamba create", "mamba"),
        ("/usr/bin/micromamba create -y", "micromamba"),
        ("/usr/bin/other", None),
    ],
)
def test_the_maker_of_a_conda_environment_is_told_by_its_history(
    command: str, expected: str | None, tmp_path: Path
) -> None:
    history = {"conda-meta/history": f"==> 2026-01-01 00:00:00 <==\n# cmd: {command}\n"}
    assert maker(tmp_path, history, "conda") == expected


def test_pixi_is_told_by_its_own_file(tmp_path: Path) -> None:
    assert maker(tmp_path, {"conda-meta/pixi": "{}"}, "conda") == "pixi"


def test_nobody_made_the_systems_python(tmp_path: Path) -> None:
    assert maker(tmp_path, {"pyvenv.cfg": VIRTUALENV}, "system") is None


class Driver:
    """A libcuda that answers as CUDA 12.4 does."""

    def __init__(self, status: int) -> None:
        self.status = status

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 12040
        return self.status


def test_cuda_is_what_the_driver_says_and_only_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(0))
    assert find_cuda(tmp_path) == "12.4"
    assert find_cuda(tmp_path / "gone") is None
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(100))
    assert find_cuda(tmp_path) is None


def test_a_driver_without_its_library_is_none(tmp_path: Path) -> None:
    assert find_cuda(tmp_path) is None
