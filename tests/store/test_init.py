"""`envboot store init`, against a service with every setting, and one that lacks some."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from envboot.cli import cli, run
from envboot.errors import Exit
from envboot.store.s3.connection import S3Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from tests.agent.proxy import Proxy
    from tests.servers import S3Server

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]

KEY = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-0000-4000-8000-000000000000"


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of a bucket that moto does not have yet."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": moto,
        "AWS_ACCESS_KEY_ID": "any-key",
        "AWS_SECRET_ACCESS_KEY": "any-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def client(bucket: str) -> S3Client:
    assert bucket
    return boto3.client("s3")


def init(url: str, *options: str) -> int:
    return run(cli, ["store", "init", url, *options], "envboot")


def outcomes(capsys: pytest.CaptureFixture[str], url: str, *options: str) -> dict[str, str]:
    """Run it and return what became of each setting."""
    capsys.readouterr()
    assert init(url, *options, "--json") == Exit.OK
    return {step["name"]: step["outcome"] for step in json.loads(capsys.readouterr().out)}


def transcript(capsys: pytest.CaptureFixture[str], code: int, *names: str) -> str:
    """Return what was printed, without what differs from run to run."""
    seen = capsys.readouterr()
    text = f"{seen.out}{seen.err}exit code {code}\n"
    for name in names:
        text = text.replace(name, "BUCKET")
    return re.sub(r"http://127\.0\.0\.1:\d+", "http://ENDPOINT", text)


def test_a_new_bucket_is_private_encrypted_and_tidied(
    bucket: str,
    client: S3Client,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str | bytes], None],
) -> None:
    url = f"s3://{bucket}/team/one"
    runs = [
        transcript(capsys, init(url, *options, "--region", "eu-west-1", "--tls-only"), bucket)
        for options in (["--dry-run"], [], [])
    ]
    golden("store-init.txt", "\n".join(runs))
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-west-1"
    blocks = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(blocks.values()) == {True}
    owner = client.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert owner == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    lives = {
        rule["Filter"]["Prefix"]: rule["Expiration"]["Days"]
        for rule in rules
        if "Expiration" in rule
    }
    assert lives == {
        "team/one/layers/": 1,
        "team/one/locks/": 1,
        "team/one/launches/": 8,
        "team/one/reports/": 30,
        "team/one/base/": 90,
    }
    (uploads,) = [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert uploads["Filter"] == {"Prefix": "team/one/"}
    (statement,) = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (statement["Sid"], statement["Effect"]) == ("EnvbootTlsOnly", "Deny")


def test_a_dry_run_makes_nothing(
    bucket: str, client: S3Client, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"s3://{bucket}"
    assert set(outcomes(capsys, url, "--dry-run").values()) == {"would change", "skipped"}
    assert bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]
    client.create_bucket(Bucket=bucket)
    assert outcomes(capsys, url, "--dry-run")["lifecycle"] == "would change"
    assert outcomes(capsys, url)["lifecycle"] == "changed"


def test_what_others_have_set_is_kept(
    bucket: str, client: S3Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_bucket(Bucket=bucket)
    theirs: Any = {"ID": "theirs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled"}
    theirs["Expiration"] = {"Days": 30}
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [theirs]}
    )
    statement = {
        "Sid": "theirs",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Id": "mine", "Statement": [statement]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    for prefix in ("one", "two", "one"):
        outcomes(capsys, f"s3://{bucket}/{prefix}", "--tls-only")
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [rule["ID"] for rule in rules if not rule["ID"].startswith("envboot-")] == ["theirs"]
    assert len([rule for rule in rules if rule["ID"].startswith("envboot-one/")]) == 6
    assert len([rule for rule in rules if rule["ID"].startswith("envboot-two/")]) == 6
    merged = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
    assert merged["Id"] == "mine"
    assert [each["Sid"] for each in merged["Statement"]] == ["theirs", "EnvbootTlsOnly"]


def test_bases_live_as_long_as_it_is_said(
    bucket: str, client: S3Client, capsys: pytest.CaptureFixture[str]
) -> None:
    def lives() -> dict[str, int]:
        rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        return {r["ID"]: r["Expiration"]["Days"] for r in rules if "Expiration" in r}

    url = f"s3://{bucket}"
    outcomes(capsys, url, "--base-life", "7", "--layer-life", "8")
    assert (lives()["envboot-base"], lives()["envboot-layers"]) == (7, 8)
    assert outcomes(capsys, url, "--base-life", "never")["lifecycle"] == "changed"
    assert "envboot-base" not in lives()
    assert lives()["envboot-layers"] == 1
    for wrong in ("0", "-1", "soon", ""):
        assert init(url, "--base-life", wrong) == Exit.USAGE


@pytest.mark.parametrize("by", ["option", "setting"])
def test_a_key_of_ones_own_encrypts_by_default(
    bucket: str, client: S3Client, capsys: pytest.CaptureFixture[str], tmp_path: Path, by: str
) -> None:
    options = ["--kms-key", KEY] if by == "option" else []
    if by == "setting":
        text = f'[tool.envboot.s3]\nkms-key = "{KEY}"\nregion = "eu-west-1"\n'
        (tmp_path / "pyproject.toml").write_text(text)
    url = f"s3://{bucket}"
    assert outcomes(capsys, url, *options)["encryption"] == "changed"
    (rule,) = client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"][
        "Rules"
    ]
    assert rule["BucketKeyEnabled"] is True
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": KEY,
    }
    assert outcomes(capsys, url, "--kms-key", KEY.rpartition("/")[2])["encryption"] == "right"
    (tmp_path / "pyproject.toml").unlink(missing_ok=True)
    # What is stronger than asked for is not made weaker.
    assert outcomes(capsys, url)["encryption"] == "right"


def test_without_tls_nothing_is_denied_and_that_is_said(
    bucket: str, client: S3Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcomes(capsys, f"s3://{bucket}")["TLS only"] == "skipped"
    assert init(f"s3://{bucket}") == Exit.OK
    assert "The endpoint has no TLS" in capsys.readouterr().out
    with pytest.raises(client.exceptions.ClientError, match="NoSuchBucketPolicy"):
        client.get_bucket_policy(Bucket=bucket)


def test_where_there_is_tls_it_is_demanded_unless_told_not_to(
    bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Connection, "is_encrypted", True)
    url = f"s3://{bucket}"
    assert outcomes(capsys, url, "--no-tls-only")["TLS only"] == "skipped"
    assert outcomes(capsys, url)["TLS only"] == "changed"


def test_a_new_bucket_is_where_boto3_says(
    bucket: str,
    client: S3Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-north-1")
    outcomes(capsys, f"s3://{bucket}")
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-north-1"


def test_a_service_that_has_other_regions_than_amazon_chooses_itself(
    s3_bucket: str,
    s3_server: S3Server,
    proxy: Proxy,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-north-1")
    proxy.strike(r"PUT /[\w-]+$", 1, "400 InvalidLocationConstraint")
    assert outcomes(capsys, f"s3://{s3_bucket}-new")["bucket"] == "changed"
    proxy.strike(r"PUT /[\w-]+$", 1, "400 InvalidLocationConstraint")
    assert init(f"s3://{s3_bucket}-other", "--region", "eu-north-1") == Exit.STORE
    assert "InvalidLocationConstraint" in capsys.readouterr().err


def test_a_bucket_in_another_region_cannot_be_moved(
    bucket: str,
    client: S3Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.create_bucket(Bucket=bucket)
    monkeypatch.setattr(S3Connection, "is_aws", True)
    assert init(f"s3://{bucket}", "--region", "eu-west-1") == Exit.STORE
    assert f"Expected `{bucket}` in `eu-west-1`, found it in `us-east-1`" in capsys.readouterr().err


def test_a_service_that_lacks_some_is_set_up_as_far_as_it_goes(
    s3_bucket: str,
    s3_server: S3Server,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str | bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{s3_bucket}-new"
    url = f"s3://{name}/team/one"
    runs = [transcript(capsys, init(url), name) for _ in range(2)]
    # SeaweedFS without a key takes AES256 as a default, and then no upload any more.
    client = s3_server.client()
    with pytest.raises(client.exceptions.ClientError, match="ConfigurationNotFoundError"):
        client.get_bucket_encryption(Bucket=name)
    client.put_object(Bucket=name, Key="key", Body=b"x")
    runs.append(transcript(capsys, init(url, "--kms-key", "alias/team"), name))
    client.put_object(Bucket=name, Key="key", Body=b"x")
    assert client.head_object(Bucket=name, Key="key")["SSEKMSKeyId"] == "alias/team"
    assert [each["Key"] for each in client.list_objects_v2(Bucket=name)["Contents"]] == ["key"]
    golden("store-init-seaweedfs.txt", "\n".join(runs))


def test_a_refused_step_names_the_action_and_stops_no_other(
    s3_bucket: str,
    s3_server: S3Server,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[str, str | bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in s3_server.environment(s3_server.reader).items():
        monkeypatch.setenv(name, value)
    code = init(f"s3://{s3_bucket}/team/one")
    assert code == Exit.STORE
    golden("store-init-refused.txt", transcript(capsys, code, s3_bucket))
    code = init(f"s3://{s3_bucket}-new")
    assert code == Exit.STORE
    assert "`s3:CreateBucket` on `arn:aws:s3:::" in capsys.readouterr().err


def test_a_policy_that_cannot_be_read_is_not_replaced(
    s3_bucket: str,
    s3_server: S3Server,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    proxy.strike(r"GET /[\w-]+$", 99, "403 AccessDenied")
    assert init(f"s3://{s3_bucket}", "--tls-only") == Exit.STORE
    assert "TLS only: AccessDenied" in capsys.readouterr().err
    client = s3_server.client()
    for method in (client.get_bucket_policy, client.get_bucket_lifecycle_configuration):
        with pytest.raises(client.exceptions.ClientError, match="NoSuch"):
            method(Bucket=s3_bucket)


def test_a_folder_is_no_bucket_to_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert init("file:///tmp/folder") == Exit.USAGE
    assert "Expected a bucket such as `s3://bucket/prefix`" in capsys.readouterr().err
