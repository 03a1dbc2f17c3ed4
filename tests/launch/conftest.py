"""Launches here are whole commands in processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.launch.workspace import ENVBOOT, Workspace, open_workspace, write_value

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace that nothing was launched from."""
    with open_workspace(tmp_path_factory.mktemp("fresh") / "wörk space") as made:
        yield made
        clean(made)


@pytest.fixture(scope="session")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("warm") / "work") as made:
        made.launch_json("--", "true")
        yield made


@pytest.fixture
def warm(_warm: Workspace) -> Iterator[Workspace]:
    """A workspace whose environment is in the bucket, and of which no instance is there."""
    write_value(_warm.folder, 1)
    yield _warm
    clean(_warm)


def clean(workspace: Workspace) -> None:
    """End what a test that failed, or kept an instance, left behind."""
    if workspace.survivors() or workspace.leftovers():
        workspace.run(ENVBOOT, "terminate", "--all")
