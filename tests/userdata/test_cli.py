"""`envboot render-userdata` as people type it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import pty
import re
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from envboot.agent_payload import agent_zip
from envboot.duration import parse_duration
from envboot.errors import Exit, UsageError
from tests.servers import s3_bucket, s3_server  # noqa: F401 - fixtures
from tests.userdata.conftest import make_manifest

pytestmark = pytest.mark.subprocess
Golden = Callable[[str, Any], None]
ENVBOOT = [sys.executable, "-c", "from envboot.cli import main; main()", "render-userdata"]


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    file = tmp_path / "manifest.json"
    file.write_bytes(make_manifest(3).to_bytes())
    return str(file)


def envboot(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [*ENVBOOT, *words], cwd=cwd, env=environ, text=True, capture_output=True, check=False
    )


def test_a_manifest_becomes_a_script_on_stdout(manifest: str, tmp_path: Path) -> None:
    done = envboot("--manifest", manifest, "--for", "local", "--", "python", "a.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("#!/bin/sh\n")
    assert '"command":["python","a.py"]' in done.stdout


def test_everything_that_is_asked_for_is_in_the_document(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("#cloud-config\nruncmd: [[touch, /a]]\n")
    (tmp_path / "b.txt").write_text("#!/bin/sh\necho b\n")
    done = envboot(
        *("--manifest", manifest, "--for", "nocloud", "--env", "A=b=c"),
        *("--part", "a.yaml", "--part", "x-shellscript-per-boot:b.txt", "-o", "out"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "out").read_text()
    assert '"environment":{"A":"b=c"}' in text
    assert "Merge-Type: list(append)" in text
    assert 'Content-Type: text/x-shellscript-per-boot; charset="utf-8"' in text
    assert 'filename="b.txt"' in text


def test_json_goes_into_the_file_that_is_named(manifest: str, tmp_path: Path) -> None:
    words = ("--manifest", manifest, "--for", "gce", "--json")
    printed = envboot(*words, cwd=tmp_path).stdout
    done = envboot(*words, "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "out").read_text() == printed
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600


def test_the_file_is_for_the_user_alone(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old, and readable for all")
    envboot("--manifest", manifest, "--for", "local", "-o", "out", cwd=tmp_path)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    assert (tmp_path / "out").read_text().startswith("#!/bin/sh\n")


def test_what_is_no_file_stays_what_it_is(manifest: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    done = envboot("--manifest", manifest, "--for", "ec2", "-o", "pipe", cwd=tmp_path)
    with open(reader, "rb") as stream:
        assert (done.returncode, stream.read(2)) == (0, b"\x1f\x8b")
    assert (tmp_path / "pipe").is_fifo()


def test_explain_shows_costs_rungs_and_limit_on_stderr(manifest: str, tmp_path: Path) -> None:
    done = envboot("--manifest", manifest, "--explain", "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines[0].split() == ["PART", "RAW", "COUNTS"]
    assert lines[1].startswith("agent ")
    assert f"{(tmp_path / 'out').stat().st_size:,}" in done.stderr
    assert "chosen" in done.stderr
    assert lines[-1] == "limit  16,384"


def test_json_holds_the_document_and_its_costs(manifest: str, tmp_path: Path) -> None:
    done = envboot("--manifest", manifest, "--for", "ec2-base64", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert set(document) == {
        *("for", "auth", "environment", "rung", "encoding", "size", "limit", "costs", "rungs"),
        "document",
    }
    assert (document["for"], document["rung"], document["encoding"]) == (
        *("ec2-base64", "gzip", "base64"),
    )
    payload = base64.b64decode(base64.b64decode(document["document"]))
    assert payload[:2] == b"\x1f\x8b"
    assert len(payload) == document["size"] == sum(row["counts"] for row in document["costs"])


def test_gzip_is_not_written_to_a_terminal(manifest: str, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*ENVBOOT, "--manifest", manifest],
        cwd=tmp_path,
        env=environ,
        stdout=slave,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(slave)
    os.close(master)
    assert done.returncode == Exit.USAGE
    assert done.stderr == (
        "error: Cannot write gzip to a terminal\n\n"
        "hint: Write a file with `-o FILE`, or use `--for ec2-base64`\n"
    )


def test_a_layer_without_a_bucket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(make_manifest(3, layer=True).to_bytes())
    done = envboot("--manifest", "m.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (Exit.RENDER, "")
    assert done.stderr == (
        "error: Cannot carry the local layer (`flow`) in user-data\n\n"
        "hint: Give a bucket for it: `--store s3://bucket/prefix`\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--python", "x", "--manifest", "y"],
            "Cannot take `--manifest` and choose an environment too",
        ),
        (["--manifest", "absent.json"], "Cannot read manifest `absent.json`"),
        (["--part", "absent.yaml"], "Cannot read part `absent.yaml`"),
        (["--env", "1A=b"], "Expected `--env NAME=VALUE`, found `1A=b`"),
        (["--store", "file:///b"], "Cannot sign URLs that outlive this command in `file:///b`"),
        (["--auth", "role"], "Cannot use `--auth role` without a bucket"),
        (["--for", "terraform"], "Cannot use `--for terraform` without a bucket"),
        (
            ["--for", "terraform", "--auth", "urls"],
            "Cannot put signed URLs into what terraform keeps: they end, and change with each plan",
        ),
        (
            ["--auth", "role", "--store", "file:///nowhere/b"],
            "Bucket `file:///nowhere/b` knows no roles",
        ),
        (
            ["--launch", "a/b"],
            "Expected a name of letters, digits, `.`, `_` and `-` for `--launch`, found `a/b`",
        ),
        (
            ["--for", "nocloud", "--on-interruption", "true"],
            "Cannot watch for notices on launch path `nocloud`, which is of no cloud",
        ),
        (["--expires", "8d"], "Expected a duration of at most `7d`, such as `24h`, found `8d`"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    words: list[str], message: str, manifest: str, tmp_path: Path
) -> None:
    if "--auth" in words:
        words = [*words, "--manifest", manifest]
    done = envboot(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr.splitlines()[0] == f"error: {message}"


def test_a_malformed_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("{}")
    done = envboot("--manifest", "m.json", cwd=tmp_path)
    assert done.returncode == Exit.USAGE
    assert done.stderr == (
        "error: Cannot read manifest `m.json`\n"
        "  caused by: Expected `manifest_version`, found nothing\n"
    )


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90s", "15m", "24h", "7d")] == [
        *(90, 900, 86400, 604800)
    ]
    for text in ("", "0h", "24", "h", "169h", "-1h", "1.5h"):
        with pytest.raises(UsageError):
            parse_duration(text)


def test_the_help_names_every_option(golden: Golden, tmp_path: Path) -> None:
    done = envboot("--help", cwd=tmp_path)
    golden("render-userdata-help.txt", done.stdout)


@pytest.mark.sockets
def test_with_a_bucket_the_document_grants_what_was_put_there(
    s3_bucket: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    whole = make_manifest(400)
    bare = replace(whole, base=replace(whole.base, tools={}))
    (tmp_path / "m.json").write_bytes(bare.to_bytes())
    store = f"s3://{s3_bucket}/team"
    done = envboot(
        *("--manifest", "m.json", "--store", store, "--expires", "1h", "--json"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rung"] == "manifest"
    until = re.search(r"^Signed URLs live until (\S+)Z$", done.stderr, re.MULTILINE)
    assert until
    left = datetime.fromisoformat(f"{until[1]}+00:00") - datetime.now(timezone.utc)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    script = gzip.decompress(base64.b64decode(document["document"])).decode()
    grants = json.loads(script.partition("grants.json\n")[2].partition("\n")[0])
    with urllib.request.urlopen(grants["manifest"]["get"]) as answer:
        assert answer.read() == bare.to_bytes()
    with urllib.request.urlopen(grants["agent"]["get"]) as answer:
        assert (grants["agent"]["sha256"], answer.read()) == agent_zip()


@pytest.mark.sockets
def test_with_a_role_the_document_is_the_same_each_time_and_holds_no_secret(
    s3_bucket: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    whole = make_manifest(400)
    bare = replace(whole, base=replace(whole.base, tools={}))
    (tmp_path / "m.json").write_bytes(bare.to_bytes())
    store = f"s3://{s3_bucket}/team"
    words = ("--manifest", "m.json", "--store", store, "--auth", "role", "--on-interruption", "a b")
    done = envboot(*words, "--explain", "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (
        *(0, ["auth   role", "limit  16,384"]),
    ), done.stderr
    assert "manifest by role " in done.stderr
    shown = [json.loads(envboot(*words, "--json", cwd=tmp_path).stdout) for _ in range(2)]
    assert shown[0] == shown[1]
    assert shown[0]["auth"] == "role"
    assert (shown[0]["rung"], shown[0]["size"]) <= ("manifest", 16_384)
    script = gzip.decompress(base64.b64decode(shown[0]["document"])).decode()
    grants = json.loads(script.partition("grants.json\n")[2].partition("\n")[0])
    assert "expires" not in grants
    assert grants["launch"] == f"env-{bare.environment_digest[7:19]}"
    assert grants["report"]["url"].endswith(f"/team/reports/{grants['launch']}/")
    assert not re.search("Signature|Credential|admin", json.dumps(grants))
    assert '"watch":{"hook":"a b"}' in script
    assert "envboot-watch.service\n[Unit]" in script
    other = json.loads(envboot(*words, "--launch", "nightly", "--json", cwd=tmp_path).stdout)
    assert other["document"] != shown[0]["document"]


@pytest.mark.sockets
def test_signed_urls_that_their_credentials_cut_short_are_told(
    s3_bucket: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = replace(make_manifest(3), base=replace(make_manifest(3).base, tools={}))
    (tmp_path / "m.json").write_bytes(bare.to_bytes())
    end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=2)
    keys = {
        "Version": 1,
        "AccessKeyId": os.environ["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
        "Expiration": end.isoformat(),
    }
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = cat {tmp_path / 'keys.json'}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    words = ("--manifest", "m.json", "--store", f"s3://{s3_bucket}", "-o", "out")
    short = envboot(*words, "--expires", "1h", cwd=tmp_path)
    assert short.returncode == 0, short.stderr
    assert re.search(r"^Signed URLs live until \S+Z$", short.stderr, re.MULTILINE)
    long = envboot(*words, "--expires", "24h", cwd=tmp_path)
    until = f"Signed URLs live until {end:%Y-%m-%dT%H:%M:%SZ}, when the credentials that signed"
    assert f"{until} them end\n\nhint: Let machines ask as their role" in long.stderr


@pytest.mark.sockets
def test_a_kept_manifest_brings_its_layer_or_is_refused(
    s3_bucket: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = make_manifest(3, layer=True)
    kept = replace(whole, base=replace(whole.base, tools={}))
    assert kept.layer
    (tmp_path / "m.json").write_bytes(kept.to_bytes())
    monkeypatch.setenv("ENVBOOT_CACHE_DIR", str(tmp_path / "cache"))
    store = f"s3://{s3_bucket}/layers"
    done = envboot("--manifest", "m.json", "--store", store, cwd=tmp_path)
    key = f"layers/{kept.layer.digest[7:]}.tar.zst"
    assert (done.returncode, done.stdout) == (Exit.STORE, "")
    assert f"error: Layer `{key}` was not found in `{store}`" in done.stderr
    (tmp_path / "cache" / "layers").mkdir(parents=True)
    (tmp_path / "cache" / key).write_bytes(b"packed")
    digest = hashlib.sha256(b"packed").hexdigest()
    (tmp_path / "cache" / f"{key}.sha256").write_text(digest)
    done = envboot("--manifest", "m.json", "--store", store, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # From then on it is in the bucket.
    (tmp_path / "cache" / key).unlink()
    assert envboot("--manifest", "m.json", "--store", store, "--json", cwd=tmp_path).returncode == 0
