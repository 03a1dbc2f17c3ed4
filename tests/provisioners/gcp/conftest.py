from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot_provisioners.gcp import GcpProvisioner
from tests.gce import gce as gce
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def gcp(tmp_path: Path) -> GcpProvisioner:
    """A provisioner with a state folder of its own."""
    return GcpProvisioner(make_session(state=tmp_path / "state"))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr("envboot_provisioners.gcp.starting.PAUSES", (0.0,) * 5)
    monkeypatch.setattr("envboot_provisioners.gcp.starting.LOOK", 0.01)
    monkeypatch.setattr("envboot_provisioners.gcp.starting.SETTLE", 0.3)
