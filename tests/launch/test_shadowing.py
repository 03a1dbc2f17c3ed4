"""Modules of the user's own with names that are ours, or were: the command works, they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.launch.workspace import ENVBOOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

# What the directories of the sources are called, and what the packages once were.
NAMES = ("bootstrap", "provisioners", "templates")
SHOW = f"import {', '.join(NAMES)}; print({', '.join(f'{name}.OWNER' for name in NAMES)})"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A directory of code of the user's."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("OWNER = 'mine'\n")
    (tmp_path / "show.py").write_text(f"{SHOW}\n")
    return tmp_path


def test_modules_on_pythonpath_do_not_break_the_command_and_arrive(
    warm: Workspace, code: Path
) -> None:
    done = warm.launch("--", "python", "-c", SHOW, PYTHONPATH=str(code))
    assert done.returncode == 0, done.stderr
    assert "mine mine mine\n" in done.stdout


def test_modules_beside_the_script_do_not_break_the_command_and_arrive(
    warm: Workspace, code: Path
) -> None:
    done = warm.run("env", "-C", str(code), *warm.command("--", "python", "show.py"))
    assert done.returncode == 0, done.stderr
    assert "mine mine mine\n" in done.stdout


def test_one_that_is_called_as_we_are_arrives_from_the_current_directory(
    warm: Workspace, code: Path
) -> None:
    (code / "envboot.py").write_text("OWNER = 'mine'\n")
    show = "import envboot; print(envboot.OWNER)"
    done = warm.run("env", "-C", str(code), *warm.command("--", "python", "-c", show))
    assert done.returncode == 0, done.stderr
    assert "mine\n" in done.stdout


def test_one_that_is_called_as_we_are_hides_us_on_pythonpath_as_the_docs_say(
    warm: Workspace, code: Path
) -> None:
    (code / "envboot.py").write_text("OWNER = 'mine'\n")
    done = warm.run(ENVBOOT, "--version", PYTHONPATH=str(code))
    assert done.returncode == 1
    assert "'envboot' is not a package" in done.stderr
