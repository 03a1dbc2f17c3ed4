from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from envboot.publish.grants import Auth
from envboot.store.gcs.store import GcsStore
from tests.agent.guests import Guest, Launch, Parts, make_launch
from tests.agent.token.cloud import Cloud
from tests.boot.gce_metadata import serve_gce_metadata
from tests.servers import gcs_bucket, gcs_server, gcs_session  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.gcs import GcsFront


@pytest.fixture
def cloud(gcs_bucket: str, gcs_server: GcsFront) -> Iterator[Cloud]:  # noqa: F811
    """An empty bucket, and a machine whose account may do everything in it for an hour."""
    with (
        GcsStore(f"gs://{gcs_bucket}/team envs", environment=os.environ) as store,
        serve_gce_metadata() as (server, host),
    ):
        found = Cloud(store=store, front=gcs_server, metadata=server, host=host)
        found.give_token()
        yield found


@pytest.fixture
def launch(parts: Parts, cloud: Cloud, tmp_path: Path) -> Launch:
    """A launch whose guests ask with their service account's token."""
    return make_launch(parts, cloud.store, tmp_path / "cache", auth=Auth.ROLE)


@pytest.fixture
def new_guest(tmp_path: Path, cloud: Cloud) -> Callable[[str, Launch], Guest]:
    """Return a maker of fresh machines that have the service account."""

    def make(name: str, launch: Launch) -> Guest:
        guest = Guest(tmp_path / name, launch)
        guest.environment["GCE_METADATA_HOST"] = cloud.host
        return guest

    return make
