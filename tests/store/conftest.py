from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootstrap.store import Store, open_store
from tests.servers import s3_bucket, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["s3_bucket", "s3_server"]

KINDS = [
    pytest.param("local", marks=pytest.mark.sockets),
    pytest.param("s3", marks=[pytest.mark.sockets, pytest.mark.subprocess]),
]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty bucket of each kind."""
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3_bucket')}/team/one"
    return f"file://{tmp_path}/bucket"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def s3(s3_bucket: str) -> Iterator[Store]:
    with open_store(f"s3://{s3_bucket}/team/one") as opened:
        yield opened
