"""The notebook and the examples of the documentation, run from top to bottom as a person would."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from envboot import EnvbootError
from envboot.errors import Exit
from tests.cluster.project import REPOSITORY, Project
from tests.docs.pages import find_blocks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets, pytest.mark.network]

NOTEBOOK = REPOSITORY / "docs/examples/cluster.ipynb"
API = REPOSITORY / "docs/api.md"


def execute(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the notebook in the project's environment; returns it with its outputs."""
    kernel = folder / "jupyter/kernels/project"
    kernel.mkdir(parents=True)
    argv = [str(project.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    document = {"argv": argv, "display_name": "project", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(document))
    (folder / "work").mkdir()
    shutil.copy(NOTEBOOK, folder / "work")
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="project",
        resources={"metadata": {"path": str(folder / "work")}},
    )
    return client.execute(env=dict(project.variables))


def test_the_notebook_runs_and_shows_what_it_says(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = execute(project, tmp_path, monkeypatch)
    cells = [cell for cell in done.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    # A notebook shows stderr in red: nothing that is well belongs there.
    assert not [o for o in outputs if o.get("name") == "stderr"], outputs
    shown = [o.data["text/plain"] for o in outputs if "text/plain" in o.get("data", {})]
    assert "[11.9, 23.8, 35.7]" in shown
    assert "[10.7, 21.4, 32.1]" in shown
    printed = "".join(o.text for o in outputs if o.get("name") == "stdout")
    assert "starting a scheduler and 2 workers on `local`" in printed
    assert "3 machines synced in" in printed
    # The widget where widgets are shown, and a table of the cluster where they are not.
    (widget,) = [
        o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})
    ]
    assert widget.data["application/vnd.jupyter.widget-view+json"]["model_id"]


def test_the_notebook_comes_without_outputs() -> None:
    document = json.loads(NOTEBOOK.read_text("utf-8"))
    assert not [cell for cell in document["cells"] if cell.get("outputs")]


def test_the_examples_of_the_api_run_and_show_what_the_page_says(project: Project) -> None:
    blocks = find_blocks(API.read_text("utf-8"), "python")
    done = project.run("\n".join(blocks), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    scan, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"venv 3\.\d+\.\d+ \d+", scan)
    assert [line for line in rest if re.fullmatch(r"forecast@1 sha256:[0-9a-f]{64}", line)]
    assert "6" in rest
    (refused,) = [line for line in rest if "no-such-environment" in line]
    assert "envboot env publish" in refused
    matches = (re.fullmatch(r"(\d+) (\w+Error)", line) for line in rest)
    codes = {match[2]: match[1] for match in matches if match}
    kinds = {kind.__name__: kind for kind in find_kinds(EnvbootError)}
    assert codes == {name: str(int(kinds[name].exit_code)) for name in codes}
    assert codes["MissingExtraError"] == str(int(Exit.USAGE))
    assert project.machines() == []


def find_kinds(kind: type[EnvbootError]) -> list[type[EnvbootError]]:
    """Return a class of errors and all below it."""
    return [kind, *(found for below in kind.__subclasses__() for found in find_kinds(below))]


def test_the_same_environment_gets_no_second_version_and_a_slip_is_told(project: Project) -> None:
    first, second, told = project.ask(
        """
import json
from envboot import UsageError, publish_here
names = [publish_here("twice", host_python=True) for _ in range(2)]
try:
    publish_here("twice", package_sync_ignored=["numpy"])
except UsageError as error:
    print(json.dumps([*names, str(error)]))
"""
    )
    assert (first, second) == ("twice@1", "twice@1")
    assert told == (
        "Unknown argument `package_sync_ignored`\n\nhint: Did you mean `package_sync_ignore`?"
    )
