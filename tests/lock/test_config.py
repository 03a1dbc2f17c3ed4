"""`[tool.envboot]`: what is read, and what is refused by its dotted path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from envboot.config import (
    S3Settings,
    Settings,
    find_tool,
    parse_settings,
    read_settings,
)
from envboot.errors import UsageError
from envboot.folders import cache_folder
from envboot.platforms import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

SHA = "0" * 64
PIN = f'version = "9"\nurl = "https://files.test/uv"\nsha256 = "{SHA}"\n'


def test_the_nearest_file_upward_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.envboot]\nglibc = "2.34"\n')
    below = tmp_path / "src" / "package"
    below.mkdir(parents=True)
    assert read_settings(below).glibc == "2.34"


def test_every_key_is_read() -> None:
    settings = parse_settings(
        '[tool.envboot]\nchannels = ["a", "b"]\nglibc = "2.17"\nstore = "s3://team"\n'
        'exclude = ["data/", "*.ckpt"]\ninclude = ["*.yaml"]\nloose-limit = 250\n'
        f"[tool.envboot.tools.uv]\n{PIN}"
    )
    assert settings.channels == ("a", "b")
    assert settings.store == "s3://team"
    assert (settings.exclude, settings.loose_limit) == (("data/", "*.ckpt"), 250)
    assert settings.include == ("*.yaml",)
    assert find_tool("uv", "linux-64", settings).url == "https://files.test/uv"
    assert find_tool("micromamba", "linux-64", settings).version.startswith("2.")


def test_where_an_s3_bucket_is_is_read() -> None:
    settings = parse_settings(
        '[tool.envboot.s3]\nendpoint-url = "https://minio.test:9000/path"\nregion = "eu-west-1"\n'
        'kms-key = "arn:aws:kms:eu-west-1:111122223333:alias/team_1"\n'
    )
    assert settings.s3.endpoint_url == "https://minio.test:9000/path"
    assert settings.s3.region == "eu-west-1"
    assert settings.s3.kms_key == "arn:aws:kms:eu-west-1:111122223333:alias/team_1"
    assert parse_settings("[tool.envboot.s3]\n").s3 == S3Settings()


def test_without_a_table_the_defaults_hold() -> None:
    assert parse_settings("[tool.other]\nglibc = 3\n") == Settings()
    assert Settings().channels == ("conda-forge",)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[tool.envboot]\nchannel = "a"', "tool.envboot.channel"),
        ("[tool.envboot.tools.pixi]", "tool.envboot.tools.pixi"),
        (f"[tool.envboot.tools.uv]\n{PIN}arch = 1", "tool.envboot.tools.uv.arch"),
        ('[tool.envboot.tools.uv]\nversion = "1"', "tool.envboot.tools.uv.url"),
        (f"[tool.envboot.tools.uv]\n{PIN.replace(SHA, 'abc')}", "tool.envboot.tools.uv.sha256"),
        ("[tool.envboot]\nglibc = 2.28", "tool.envboot.glibc"),
        ('[tool.envboot]\nchannels = "conda-forge"', "tool.envboot.channels"),
        ('[tool.envboot]\nignore = "numpy"', "tool.envboot.ignore"),
        ("[tool.envboot]\nrequire = [1]", "tool.envboot.require"),
        ('[tool.envboot]\nadd = [""]', "tool.envboot.add"),
        ('[tool.envboot]\nexclude = "data/"', "tool.envboot.exclude"),
        ('[tool.envboot]\nexclude = ["!"]', "tool.envboot.exclude"),
        ('[tool.envboot]\ninclude = ["!"]', "tool.envboot.include"),
        ('[tool.envboot]\nloose-limit = "1 GB"', "tool.envboot.loose-limit"),
        ("[tool.envboot]\nloose-limit = 0", "tool.envboot.loose-limit"),
        ("[tool.envboot]\nloose-limit = true", "tool.envboot.loose-limit"),
        ("[tool.envboot]\ns3 = 1", "tool.envboot.s3"),
        ("[tool.envboot.s3]\nendpoint = 1", "tool.envboot.s3.endpoint"),
        ('[tool.envboot.s3]\nendpoint-url = "minio.test"', "tool.envboot.s3.endpoint-url"),
        ('[tool.envboot.s3]\nendpoint-url = "https://a:b@c"', "tool.envboot.s3.endpoint-url"),
        ('[tool.envboot.s3]\nregion = "EU West"', "tool.envboot.s3.region"),
        ('[tool.envboot.s3]\nregion = ""', "tool.envboot.s3.region"),
        ('[tool.envboot.s3]\nkms-key = "a key"', "tool.envboot.s3.kms-key"),
        ("[tool.envboot]\ngcs = 1", "tool.envboot.gcs"),
        ('[tool.envboot.gcs]\nregion = "us"', "tool.envboot.gcs.region"),
        ('[tool.envboot.gcs]\nkms-key = "alias/team"', "tool.envboot.gcs.kms-key"),
        ('[tool.envboot.gcs]\nproject = "My Project"', "tool.envboot.gcs.project"),
        ("[tool.envboot.s3]\nkms-key = true", "tool.envboot.s3.kms-key"),
        ("[tool]\nenvboot = 1", "tool.envboot"),
        ("[[tool]]\nenvboot = 1", "tool"),
    ],
)
def test_what_is_wrong_is_named_by_its_dotted_path(text: str, path: str) -> None:
    with pytest.raises(UsageError, match=rf"`{path}`"):
        parse_settings(text)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.envboot\n")
    with pytest.raises(UsageError) as caught:
        read_settings(tmp_path)
    assert str(tmp_path / "pyproject.toml") in caught.value.causes[-1]


@pytest.mark.parametrize("platform", TARGETS)
@pytest.mark.parametrize("name", ["micromamba", "uv"])
def test_every_platform_has_its_own_pins(name: str, platform: str) -> None:
    tool = find_tool(name, platform, Settings())
    assert tool.version in tool.url
    assert len(tool.sha256) == 64
    other = next(each for each in TARGETS if each != platform)
    assert tool.sha256 != find_tool(name, other, Settings()).sha256


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVBOOT_CACHE_DIR", str(tmp_path))
    assert cache_folder(os.environ) == tmp_path
    monkeypatch.setenv("ENVBOOT_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(os.environ) == tmp_path / "xdg" / "envboot"
