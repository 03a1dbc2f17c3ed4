from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from envboot.publish.grants import Auth
from envboot.store.s3.store import S3Store
from tests.agent.guests import Guest, Launch, Parts, make_launch
from tests.agent.proxy import running
from tests.agent.role.cloud import Cloud, by_role
from tests.agent.role.gate import Gate
from tests.boot.metadata import serve_metadata
from tests.servers import s3_bucket, s3_server  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import S3Server


@pytest.fixture
def cloud(s3_bucket: str, s3_server: S3Server) -> Iterator[Cloud]:  # noqa: F811
    """An empty bucket, and a role that may do everything in it for an hour."""
    gate = Gate(s3_server.endpoint, s3_server.admin)
    with (
        S3Store(f"s3://{s3_bucket}/team envs", environment=os.environ) as store,
        running(gate),
        serve_metadata() as (metadata, endpoint),
    ):
        found = Cloud(store=store, gate=gate, metadata=metadata, endpoint=endpoint)
        found.give_role(3600)
        yield found


@pytest.fixture
def launch(parts: Parts, cloud: Cloud, tmp_path: Path) -> Launch:
    """A launch whose guests ask with their role."""
    return by_role(cloud, make_launch(parts, cloud.store, tmp_path / "cache", auth=Auth.ROLE))


@pytest.fixture
def new_guest(tmp_path: Path, cloud: Cloud) -> Callable[[str, Launch], Guest]:
    """Return a maker of fresh machines that have the role."""

    def make(name: str, launch: Launch) -> Guest:
        guest = Guest(tmp_path / name, launch)
        guest.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = cloud.endpoint
        return guest

    return make
