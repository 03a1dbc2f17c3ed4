"""What machines need, and what they say when they are skipped for want of it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.boot.account import open_vpc_account
from tests.boot.dask_environment import ensure_dask_wheels, make_dask_environment
from tests.boot.root import ensure_root
from tests.channel import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.boot.account import Account

NEEDED = ("ip", "mmdebstrap", "setpriv", "systemd-nspawn", "unshare")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root file system that every machine's overlay lies over."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a boot needs root and {', '.join(NEEDED)}; missing: {missing}")
    return ensure_root(CACHE)


@pytest.fixture(scope="module")
def dask_account(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account in a VPC, with the test as its user, whose environment has Dask and `shop`.

    One machine has published the environment: three that install at once would be slow here.
    """
    ensure_dask_wheels()
    folder = tmp_path_factory.mktemp("dask") / "account"
    with open_vpc_account(root, folder, make=make_dask_environment) as opened:
        opened.launch("--", "python", "-c", "import distributed, shop")
        yield opened
