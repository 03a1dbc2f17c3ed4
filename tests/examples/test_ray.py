"""docs/examples/on_ray.py, as its page runs it: two machines of this one, and Ray on both."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.indexes.program import find_uv
from tests.index import write_simple
from tests.launch.conftest import clean
from tests.launch.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets, pytest.mark.network]
EXAMPLE = Path(__file__).parents[2] / "docs/examples/on_ray.py"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A user's folder with Ray in its environment."""
    with open_workspace(tmp_path / "work") as made:
        download = ["-m", "pip", "download", "-q", "--only-binary=:all:", "-d", str(made.index)]
        subprocess.run([sys.executable, *download, "ray==2.60.0"], check=True)
        write_simple(made.index)
        done = made.run(find_uv(), "pip", "install", "-q", "-p", "venv", "ray")
        assert done.returncode == 0, done.stderr
        shutil.copy(EXAMPLE, made.folder)
        yield made
        clean(made)


def test_ray_runs_on_two_machines(workspace: Workspace) -> None:
    # One machine installs and compiles Ray; otherwise both would, for 10 s of CPU and more.
    workspace.launch_json("--", "true")
    document = workspace.launch_json("--count", "2", "--", "python", "on_ray.py")
    assert {each["source"] for each in document["instances"]} == {"archive"}
    output = {each["exit_code"]: each["output"] for each in document["instances"]}
    assert output.keys() == {0}
    assert any("8 tasks ran on 2 machines\n" in each["output"] for each in document["instances"]), (
        document
    )
    assert workspace.survivors() == workspace.leftovers() == []
