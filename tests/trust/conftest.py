from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from envboot.store.local.store import LocalStore
from tests.keys import Signer, make_signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def ana(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """Somebody who may sign."""
    return make_signer(tmp_path_factory.mktemp("ana"), "ana@example.com")


@pytest.fixture(scope="session")
def eve(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """Somebody who may not."""
    return make_signer(tmp_path_factory.mktemp("eve"), "eve@example.com")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """An empty bucket."""
    with LocalStore(f"file://{tmp_path}/bucket") as opened:
        yield opened


@pytest.fixture
def ssh_agent(ana: Signer) -> Iterator[dict[str, str]]:
    """An SSH agent that has Ana's key, by the variables that lead to it."""
    text = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", text))
    try:
        variables = {**os.environ, **found}
        subprocess.run(["ssh-add", "-q", str(ana.key)], env=variables, check=True)
        yield found
    finally:
        os.kill(int(found["SSH_AGENT_PID"]), signal.SIGTERM)
