from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from envboot.store.local.store import LocalStore
from tests.agent.guests import Guest, Launch, Parts, make_launch, make_parts
from tests.agent.proxy import Proxy, run_proxy
from tests.index import serve_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Wheels and uv, on an index on loopback."""
    folder = tmp_path_factory.mktemp("index")
    with serve_folder(folder) as url:
        yield make_parts(folder, url)


@pytest.fixture(scope="session")
def published(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine that had to install, and has published the archive into `<root>.bucket`."""
    folder = tmp_path_factory.mktemp("published")
    with LocalStore(f"file://{folder}/first.bucket") as store:
        guest = Guest(folder / "first", make_launch(parts, store, folder / "cache"))
        assert guest.boot() == 0, guest.reasons
        assert guest.publish() == 0
    return guest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """An empty bucket with its server."""
    with LocalStore(f"file://{tmp_path}/bucket") as opened:
        yield opened


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """The folder of the bucket."""
    return tmp_path / "bucket"


@pytest.fixture
def launch(parts: Parts, store: LocalStore, tmp_path: Path) -> Launch:
    """A launch of the small environment into the empty bucket."""
    return make_launch(parts, store, tmp_path / "cache")


@pytest.fixture
def hit(parts: Parts, published: Guest, store: LocalStore, bucket: Path, tmp_path: Path) -> Launch:
    """A launch of the small environment whose archive is in the bucket."""
    shutil.copytree(published.root.with_suffix(".bucket"), bucket)
    shutil.rmtree(bucket / "reports")
    return make_launch(parts, store, tmp_path / "cache")


@pytest.fixture
def new_guest(tmp_path: Path) -> Callable[[str, Launch], Guest]:
    """Return a maker of fresh machines by name and launch."""
    return lambda name, launch: Guest(tmp_path / name, launch)


@pytest.fixture
def proxy(store: LocalStore) -> Iterator[Proxy]:
    """A proxy in front of the bucket's server; faults and grants are the test's to set."""
    with run_proxy(store.serve().server_port) as running:
        yield running
