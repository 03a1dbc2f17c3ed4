from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot_provisioners.aws import AwsProvisioner
from tests.ec2 import ec2 as ec2
from tests.ec2 import ec2_server as ec2_server
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def aws(tmp_path: Path) -> AwsProvisioner:
    """A provisioner with a state folder of its own."""
    return AwsProvisioner(make_session(state=tmp_path / "state"))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr("envboot_provisioners.aws.starting.PAUSES", (0.0,) * 5)
