"""A project's lock file that is not what is installed: a note says so, and which way out."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.indexes.program import find_uv
from envboot.lockfiles.staleness import compare_lock_file
from tests.index import make_wheel
from tests.lock.documents import make_distribution, make_record, make_scan
from tests.scan.environments import run, scan_prefix
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot.scan.schema import Scan

DATA = Path(__file__).parent / "data"


def compare(scan: Scan, folder: Path) -> list[str]:
    return [note.message for note in compare_lock_file(scan, make_session(folder=folder))]


@pytest.mark.subprocess
def test_a_uv_lock_that_is_newer_than_its_environment_is_told(tmp_path: Path) -> None:
    wheels, app = tmp_path / "wheels", tmp_path / "app"
    wheels.mkdir()
    app.mkdir()
    make_wheel(wheels, "leaf")
    make_wheel(wheels, "other", requires=["deep"])
    make_wheel(wheels, "deep")
    make_wheel(wheels, "elsewhere")

    def uv(*words: str, needs: str) -> None:
        (app / "pyproject.toml").write_text(
            f'[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.10"\n'
            f"dependencies = [{needs}, \"elsewhere; sys_platform == 'win32'\"]\n"
            f'[project.optional-dependencies]\nmore = ["deep"]\n'
        )
        command = (find_uv(), words[0], "-q", "--offline", "--no-index", "--find-links", wheels)
        run(*command, "--python", sys.executable, *words[1:], folder=app)

    uv("sync", needs='"leaf"')
    assert compare(scan_prefix(app / ".venv"), app) == []
    make_wheel(wheels, "leaf", "2.0")
    uv("lock", "--upgrade", needs='"leaf", "other"')
    below = app / "src"
    below.mkdir()
    for folder in (app, below):
        assert compare(scan_prefix(app / ".venv"), folder) == [
            (
                "Differs from what is installed and sent: `leaf` is 1.0, locked 2.0; "
                "`deep` is locked and not installed; `other` is locked and not installed. "
                "To install what is locked: `uv sync`"
            )
        ]
    uv("sync", needs='"leaf", "other"')
    assert compare(scan_prefix(app / ".venv"), app) == []


@pytest.mark.parametrize("tool", ["poetry", "pdm"])
def test_versions_of_poetry_s_and_pdm_s_locks_are_compared(tmp_path: Path, tool: str) -> None:
    entries = {"Torch": "2.1.0", "mine": "2.0", "many": "1.0", "absent": "1.0"}
    (tmp_path / f"{tool}.lock").write_text(
        "".join(f'[[package]]\nname = "{n}"\nversion = "{v}"\n\n' for n, v in entries.items())
        + '[[package]]\nname = "many"\nversion = "2.0"\n'
    )
    installed = (
        make_distribution("torch", "2.1.0+cu121"),
        make_distribution("mine", "1.0", direct_url={"url": "file:///mine", "dir_info": {}}),
        make_distribution("many", "2"),
    )
    assert compare(make_scan(*installed), tmp_path) == []
    torch = make_distribution("torch", "2.2.0+cu121")
    assert compare(make_scan(torch), tmp_path) == [
        (
            "Differs from what is installed and sent: `torch` is 2.2.0+cu121, locked 2.1.0. "
            f"To install what is locked: `{tool} sync`"
        )
    ]


def test_a_pixi_lock_is_compared_with_conda_s_packages(tmp_path: Path) -> None:
    shutil.copyfile(DATA / "pixi.lock", tmp_path / "pixi.lock")
    record = replace(make_record("python"), version="3.9.1")
    (message,) = compare(make_scan(conda=(record,)), tmp_path)
    assert message.startswith("Differs from what is installed and sent: `python` is 3.9.1, locked ")
    assert message.endswith("To install what is locked: `pixi install`")


@pytest.mark.parametrize("text", ["", "no TOML", "package = 3", "[[package]]\nname = 3", "\xff"])
@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "pdm.lock", "pixi.lock"])
def test_a_file_that_cannot_be_read_is_its_own_tool_s_to_complain_of(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_bytes(os.fsencode(text))
    assert compare(make_scan(make_distribution("leaf")), tmp_path) == []
