"""No secret reaches a manifest, a digest, user-data, a log, an error or a command line."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.manifest import parse_manifest
from tests.launch.test_conda import can_mount
from tests.private.conftest import NEEDLE, has_secret
from tests.sessions import make_session

if TYPE_CHECKING:
    from tests.private.conftest import Private
    from tests.servers import S3Server

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

PROGRAM = "import by_keyring, by_netrc, by_url, shared; print(by_keyring.NAME, by_url.NAME)"


def test_what_pip_installed_from_private_indexes_is_locked_into_the_layer(private: Private) -> None:
    done = private.envboot("lock", "--python", "venv", "--host-python", "--fresh")
    assert done.returncode == 0, done.stderr
    manifest = parse_manifest(done.stdout)
    assert [wheel.name for wheel in manifest.base.wheels] == ["shared"]
    assert manifest.layer
    names = sorted(project.name for project in manifest.layer.projects)
    assert names == ["by-keyring", "by-netrc", "by-url"]
    assert "Guests have no login here: `by-netrc` travels in the layer" in done.stderr
    assert private.leaks() == []


def test_a_launch_brings_them_and_no_secret(private: Private) -> None:
    done = private.envboot("launch", "local", "--python", "venv", "--", "python", "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert "by-keyring by-url" in done.stdout
    assert private.leaks() == []


@pytest.mark.parametrize("python", ["venv", "conda"])
def test_what_is_shown_and_exported_holds_no_secret(private: Private, python: str) -> None:
    for words in (
        ["scan", "--json"],
        ["scan"],
        ["plan"],
        ["export", "--format", "pylock" if python == "venv" else "conda-explicit"],
    ):
        done = private.envboot(*words, "--python", python)
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.parametrize("python", ["venv", "conda"])
def test_a_rendered_document_and_its_bucket_hold_no_secret(
    private: Private, python: str, s3_server: S3Server, s3_bucket: str
) -> None:
    done = private.envboot(
        *("render-userdata", "--python", python, "--no-loose", "--for", "ec2"),
        *("--store", f"s3://{s3_bucket}", "-o", f"out/{python}"),
        **s3_server.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert private.leaks() == []
    client = s3_server.client()
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket)["Contents"]]
    assert any(key.startswith("packages/" if python == "conda" else "layers/") for key in keys)
    for key in keys:
        body = client.get_object(Bucket=s3_bucket, Key=key)["Body"].read()
        assert not has_secret(body, private.secrets), key


def test_a_private_channel_is_refused_where_there_is_no_bucket(conda: Private) -> None:
    done = conda.envboot("render-userdata", "--python", "conda", "--no-loose")
    assert done.returncode == 114
    assert "Cannot carry 2 conda packages in user-data, which guests cannot fetch" in done.stderr
    assert "Is on this machine only: 1 of its packages travel in the bucket" in done.stderr
    assert "--store s3://bucket/prefix" in done.stderr


def test_packages_of_a_private_channel_come_from_the_bucket(conda: Private) -> None:
    if not can_mount([]):
        pytest.skip("wants root, or user name spaces")
    done = conda.envboot(
        *("launch", "local", "--python", "conda", "--json", "--"),
        *("python", "-c", "import tabulate; print(tabulate.__file__)"),
    )
    assert done.returncode == 0, done.stderr
    (instance,) = json.loads(done.stdout)["instances"]
    assert instance["outcome"] == "ready"
    assert instance["source"] == "install"
    assert instance["output"].startswith("/opt/envboot/env/lib/")
    (packed,) = (conda.state / "store").glob("**/packages/*.tar")
    with tarfile.open(packed) as archive:
        names = [name.rpartition("/")[2].partition("-")[0] for name in archive.getnames()]
    assert names == ["python", "tabulate"]
    assert conda.leaks() == []


def test_a_wrong_password_is_refused_by_the_name_of_its_index(private: Private) -> None:
    config = Path(private.variables["HOME"], ".config", "pip", "pip.conf")
    wrong = config.read_text().replace("hunter2-url", "hunter2-old")
    other = config.with_name("wrong.conf")
    other.write_text(wrong)
    done = private.envboot("lock", "--python", "venv", "--host-python", PIP_CONFIG_FILE=str(other))
    assert done.returncode == 111
    assert "error: Cannot look packages up in 1 private index" in done.stderr
    assert "/simple` refused the login (HTTP 401)" in done.stderr
    assert "hint: Renew the login" in done.stderr
    assert private.leaks() == []


def test_no_command_line_of_a_lookup_has_a_secret(
    private: Private, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envboot.lock import lock
    from envboot.lock.target import Target
    from envboot.scan import scan

    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    for name, value in private.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(private.folder)
    seen: list[tuple[list[str], str]] = []
    start = subprocess.Popen.__init__

    def record(self: Any, command: list[str], *arguments: Any, **options: Any) -> None:
        files = [Path(word) for word in command if word.startswith("/") and ".toml" in word]
        seen.append((command, "".join(file.read_text() for file in files if file.exists())))
        start(self, command, *arguments, **options)

    session = make_session(cache=tmp_path / "cache")
    found = scan(str(private.python), environment=session.environment, folder=session.folder)
    monkeypatch.setattr(subprocess.Popen, "__init__", record)
    target = Target(platform=found.platform, glibc="2.28", host_python=True)
    lock(found, session, target=target)
    assert any("compile" in command for command, _ in seen)
    assert NEEDLE not in repr(seen)
    assert not has_secret(repr(seen).encode(), private.secrets)


def test_an_expired_token_is_said_by_the_name_of_its_channel(
    conda: Private, tmp_path: Path
) -> None:
    home = Path(conda.variables["HOME"])
    old = tmp_path / "condarc"
    old.write_text((home / ".condarc").read_text().replace("hunter2-token", "hunter2-old"))
    (home / ".condarc").rename(tmp_path / "kept")
    try:
        done = conda.envboot(
            *("launch", "local", "--python", "conda", "--no-loose", "--", "true"),
            CONDARC=str(old),
            ENVBOOT_CACHE_DIR=str(tmp_path / "cache"),
            ENVBOOT_STATE_DIR=str(tmp_path / "state"),
        )
    finally:
        (tmp_path / "kept").rename(home / ".condarc")
    assert done.returncode == 111
    assert "error: Failed to fetch `python-" in done.stderr
    assert ".conda`: HTTP 401" in done.stderr
    assert "hint: Renew the login" in done.stderr
