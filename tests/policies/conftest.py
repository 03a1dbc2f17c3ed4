from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.store.s3.connection import S3Connection
from tests.agent.conftest import parts as parts
from tests.policies.account import run_account
from tests.policies.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agent.guests import Parts
    from tests.policies.account import Gate


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """One account a session."""
    with run_account(tmp_path_factory.mktemp("account")) as running:
        yield running


@pytest.fixture
def world(
    gate: Gate, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A bucket and a role of one's own; moto and our evaluation must agree about every request."""
    monkeypatch.chdir(tmp_path)
    # The gate stands for Amazon's own endpoints, which have TLS.
    monkeypatch.setattr(S3Connection, "is_aws", property(lambda _: True))
    monkeypatch.setattr(S3Connection, "is_encrypted", property(lambda _: True))
    monkeypatch.setattr("envboot_provisioners.aws.settling.SETTLE", 2.0)
    monkeypatch.setattr("envboot_provisioners.aws.starting.PAUSES", (0.0,))
    account = gate.account
    account.differences.clear()
    account.age = 0.0
    made = World(gate=gate, parts=parts, folder=tmp_path, patch=monkeypatch)
    yield made
    assert account.differences == []
