"""`envboot store init gs://…` against a Cloud Storage server with Google's settings of buckets."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from envboot.cli import cli, run
from tests.gcs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.gcs import GcsFront

    Init = Callable[..., "Result"]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
KEY = f"projects/{PROJECT}/locations/europe-west3/keyRings/ring/cryptoKeys/key"
OTHER = {"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 3}}


@pytest.fixture
def name(gcs_server: GcsFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket that is not there."""
    del gcs_server
    monkeypatch.chdir(tmp_path)
    return f"new-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a command printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def init(capsys: pytest.CaptureFixture[str]) -> Init:
    """Return what runs `envboot store init`."""

    def call(*words: str) -> Result:
        code = run(cli, ["store", "init", *words], "envboot")
        printed = capsys.readouterr()
        return Result(exit_code=int(code), stdout=printed.out, stderr=printed.err)

    return call


def steps(init: Init, *words: str) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in json.loads(init(*words, "--json").stdout)}


def outcomes(init: Init, *words: str) -> set[str]:
    return {step["outcome"] for step in steps(init, *words).values()}


def test_a_new_bucket_is_private_and_forgets(init: Init, gcs_server: GcsFront, name: str) -> None:
    result = init(f"gs://{name}/team", "--region", "us-central1", "--kms-key", KEY)
    assert result.exit_code == 0, result.stderr
    found = gcs_server.settings[name]
    assert found["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert found["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert found["encryption"] == {"defaultKmsKeyName": KEY}
    assert "softDeletePolicy" not in found
    ages = {
        rule["condition"]["matchesPrefix"][0]: rule["condition"]["age"]
        for rule in found["lifecycle"]["rule"]
        if "age" in rule["condition"]
    }
    short = {"team/launches/": 8, "team/layers/": 1, "team/locks/": 1, "team/reports/": 30}
    assert ages == {**short, "team/base/": 90}
    assert {rule["action"]["type"] for rule in found["lifecycle"]["rule"]} == {"Delete"}


def test_a_second_time_changes_nothing(init: Init, gcs_server: GcsFront, name: str) -> None:
    assert init(f"gs://{name}/team").exit_code == 0
    start = len(gcs_server.requests)
    assert outcomes(init, f"gs://{name}/team") == {"right"}
    assert not [each for each in gcs_server.requests[start:] if each.startswith("PATCH")]
    assert init(f"gs://{name}/team").stdout.endswith("\nNothing to change\n")


def test_a_dry_run_only_says_what_it_would_do(init: Init, gcs_server: GcsFront, name: str) -> None:
    assert outcomes(init, f"gs://{name}", "--dry-run") == {"would change"}
    assert not gcs_server.has_bucket(name)


def test_rules_of_others_stay(init: Init, gcs_server: GcsFront, gcs_bucket: str) -> None:
    mine = {"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": ["logs/"]}}
    gcs_server.settings[gcs_bucket] = {"lifecycle": {"rule": [OTHER, mine]}}
    for url, life in (("one", "30"), ("two", "never"), ("one", "60")):
        assert init(f"gs://{gcs_bucket}/{url}", "--base-life", life).exit_code == 0
    rules = gcs_server.settings[gcs_bucket]["lifecycle"]["rule"]
    assert rules[:2] == [OTHER, mine]
    bases = [rule["condition"] for rule in rules if "base/" in str(rule)]
    assert {"age": 60, "matchesPrefix": ["one/base/"]} in bases
    assert not [rule for rule in bases if rule["matchesPrefix"] == ["two/base/"]]
    assert len(bases) == 2


def test_what_is_not_allowed_is_told_with_permission_and_role(
    init: Init, gcs_server: GcsFront, gcs_bucket: str
) -> None:
    gcs_server.may = lambda who, permission, name: permission != "storage.buckets.update"
    result = init(f"gs://{gcs_bucket}")
    assert result.exit_code != 0
    assert "`storage.buckets.update` (role `roles/storage.admin`)" in result.stderr
    assert "`public access`, `access`, `lifecycle`" in result.stderr


def test_who_may_not_make_a_bucket_is_told(init: Init, gcs_server: GcsFront, name: str) -> None:
    gcs_server.may = lambda who, permission, name: permission != "storage.buckets.create"
    result = init(f"gs://{name}")
    assert "`storage.buckets.create` (role `roles/storage.admin`)" in result.stderr


def test_a_bucket_elsewhere_is_not_moved(init: Init, gcs_bucket: str) -> None:
    step = steps(init, f"gs://{gcs_bucket}", "--region", "europe-west3")["bucket"]
    assert (step["outcome"], "found it in `US-CENTRAL1`" in step["detail"]) == ("failed", True)


def test_without_a_project_no_bucket_is_made(
    init: Init, gcs_server: GcsFront, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    key = tmp_path / "key.json"
    key.write_text(json.dumps({**gcs_server.key_file(), "project_id": None}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert steps(init, f"gs://{name}")["bucket"]["detail"] == "No project was found to make it in"
    (tmp_path / "pyproject.toml").write_text('[tool.envboot.gcs]\nproject = "other"\n')
    assert "project `other`" in steps(init, f"gs://{name}")["bucket"]["detail"]


def test_there_is_no_setting_for_tls_alone(init: Init, name: str) -> None:
    result = init(f"gs://{name}", "--tls-only")
    assert "Cannot use `--tls-only` with a bucket of Cloud Storage" in result.stderr
