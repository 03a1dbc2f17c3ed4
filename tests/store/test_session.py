"""Stores take what they know from the session, whatever the process has by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.config import GcsSettings, S3Settings, Settings
from envboot.store import open_store
from envboot.store.gcs.store import GcsStore
from envboot.store.s3.store import S3Store
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _other_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the process what no session has."""
    for name, value in {
        "AWS_REGION": "ap-south-1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json"),
        "STORAGE_EMULATOR_HOST": "http://process.invalid",
    }.items():
        monkeypatch.setenv(name, value)


def test_a_bucket_of_s3_is_asked_in_the_sessions_region() -> None:
    environment = {"AWS_REGION": "eu-north-1"}
    with open_store("s3://bucket/a", make_session(environment=environment)) as store:
        assert isinstance(store, S3Store)
        assert store.connection.region == "eu-north-1"
    settings = Settings(s3=S3Settings(region="eu-west-3"))
    session = make_session(environment=environment, settings=settings)
    with open_store("s3://bucket/a", session) as store:
        assert isinstance(store, S3Store)
        assert store.connection.region == "eu-west-3"


def test_a_bucket_of_cloud_storage_is_asked_at_the_sessions_endpoint() -> None:
    environment = {"STORAGE_EMULATOR_HOST": "session.invalid:1", "GOOGLE_CLOUD_PROJECT": "ours"}
    with open_store("gs://bucket/a", make_session(environment=environment)) as store:
        assert isinstance(store, GcsStore)
        assert store.connection.endpoint == "http://session.invalid:1"
        assert store.connection.project == "ours"
    endpoint = "http://settings.invalid"
    settings = Settings(gcs=GcsSettings(endpoint_url=endpoint, project="theirs"))
    session = make_session(environment=environment, settings=settings)
    with open_store("gs://bucket/a", session) as store:
        assert isinstance(store, GcsStore)
        assert (store.connection.endpoint, store.connection.project) == (endpoint, "theirs")
