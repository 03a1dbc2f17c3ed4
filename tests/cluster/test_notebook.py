"""The notebook of the documentation, executed as a person would from top to bottom."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cluster.project import REPOSITORY, Project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets, pytest.mark.network]

NOTEBOOK = REPOSITORY / "docs/examples/cluster.ipynb"


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
        timeout=300,
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
