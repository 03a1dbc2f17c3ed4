"""Clusters here are made by whole scripts, in an environment of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.project import Project, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("cluster") / "project")


@pytest.fixture
def project(_project: Project) -> Iterator[Project]:
    """A project of which no machine is left, before and after."""
    _project.write_shop(1)
    yield _project
    left = _project.machines()
    if left:
        _project.envboot("terminate", "--all")
    assert left == []
