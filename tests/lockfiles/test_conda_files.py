"""Explicit lists, `conda-lock.yml` and `pixi.lock`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from envboot.errors import LockError
from envboot.manifest import Manifest, Python
from tests.lockfiles.reading import DATA, conda_files, names, pins, read

if TYPE_CHECKING:
    from pathlib import Path

FILES = ["python-3.11.7-hab00c5b_0_cpython.conda", "tzdata-2024a-h0c530f3_0.conda"]


def test_an_explicit_list_is_taken_with_md5_and_sha256() -> None:
    base = read("explicit.txt").base
    assert base.python == Python(version="3.11.7", source="conda")
    assert [(bool(package.md5), bool(package.sha256)) for package in base.conda] == [
        (True, False),
        (False, True),
    ]
    assert set(base.tools) == {"micromamba"}
    with pytest.raises(LockError) as error:
        read("explicit.txt", platform="linux-aarch64")
    assert error.value.causes == ("Its platforms are `linux-64`",)


def test_packages_of_pypi_in_the_comments_of_an_explicit_list_come_too(tmp_path: Path) -> None:
    """The file is what conda-lock 4.0.3 renders (`--kind explicit`) of `conda-lock.yml`."""
    locked = read("explicit.conda-lock.txt")
    assert conda_files(locked) == ["pytest-8.0.0-pyhd8ed1ab_0.conda", *FILES[::-1]]
    assert pins(locked) == ["idna==3.10"]
    assert set(locked.base.tools) == {"micromamba", "uv"}
    # What has a URL as its source is written without a hash: a commit needs none.
    text = (DATA / "explicit.conda-lock.txt").read_text()
    commit = "0123456789abcdef0123456789abcdef01234567"
    file = tmp_path / "conda-linux-64.lock"
    file.write_text(f"{text}# pip tool @ git+https://github.com/example/tool.git@{commit}\n")
    (source,) = read(file).sources
    assert (source.git, source.commit) == ("https://github.com/example/tool.git", commit)
    file.write_text(f"{text}# pip unsure @ https://a.test/unsure-1.0-py3-none-any.whl\n")
    with pytest.raises(LockError) as error:
        read(file)
    assert error.value.causes == ("`unsure`: `unsure-1.0-py3-none-any.whl` has no sha256",)
    file.write_text(f"{text}# pip unsure\n")
    with pytest.raises(LockError) as error:
        read(file)
    assert error.value.causes[0].endswith("expected `# pip NAME @ URL`, found `# pip unsure`")


def test_an_explicit_list_keeps_its_own_order(tmp_path: Path) -> None:
    lines = (DATA / "explicit.txt").read_text().splitlines()
    (tmp_path / "turned.txt").write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]))
    assert conda_files(read(tmp_path / "turned.txt")) == FILES[::-1]


def test_packages_of_an_explicit_list_may_be_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conda takes them relative to the working directory, not to the file."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "elsewhere" / "explicit.txt"
    file.write_text(
        f"@EXPLICIT\n{tmp_path}/linux-64/{FILES[0]}#{'0' * 32}\n  ./noarch/{FILES[1]}#{'1' * 32} \n"
    )
    urls = [package.url for package in read(file).base.conda]
    assert urls == [
        f"file://{tmp_path}/linux-64/{FILES[0]}",
        f"file://{tmp_path}/noarch/{FILES[1]}",
    ]


def test_a_conda_lock_gives_its_platform_and_main_category() -> None:
    locked = read("conda-lock.yml")
    assert conda_files(locked) == FILES[::-1]
    assert pins(locked) == ["idna==3.10"]
    assert "pytest" in conda_files(read("conda-lock.yml#dev"))[-1]
    with pytest.raises(LockError) as error:
        read("conda-lock.yml", platform="linux-aarch64")
    assert error.value.message.endswith("is not locked for `linux-aarch64`")
    assert error.value.causes == ("Its platforms are `linux-64`, `osx-arm64`",)


def test_a_pixi_lock_gives_one_environment_with_its_projects(tmp_path: Path) -> None:
    shutil.copyfile(DATA / "pixi.lock", tmp_path / "pixi.lock")
    member = tmp_path / "project" / "member"
    member.mkdir(parents=True)
    locked = read(tmp_path / "pixi.lock")
    assert conda_files(locked) == FILES
    assert pins(locked) == ["idna==3.10"]
    assert [source.path or source.git for source in locked.sources] == [
        str(member),
        "https://github.com/example/tool.git",
    ]
    assert locked.sources[1].commit == "0123456789abcdef0123456789abcdef01234567"
    gpu = read(f"{tmp_path}/pixi.lock#gpu")
    assert conda_files(gpu) == ["cuda-version-12.4-h3060b56_3.conda", *FILES]
    assert names(gpu) == ["member", "tool"]
    with pytest.raises(LockError) as error:
        read(f"{tmp_path}/pixi.lock#cpu")
    assert error.value.causes == ("It has `default`, `gpu`",)
    with pytest.raises(LockError, match="not locked for `linux-aarch64`"):
        read(tmp_path / "pixi.lock", platform="linux-aarch64")


@pytest.mark.parametrize("file", ["explicit.txt", "conda-lock.yml", "pixi.lock"])
def test_credentials_in_urls_go_nowhere(file: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / "project", tmp_path / "project")
    text = (DATA / file).read_text()
    secret = text.replace("://conda.anaconda.org/", "://user:hunter2@conda.anaconda.org/t/tk-1/")
    assert secret != text
    (tmp_path / file).write_text(secret)
    locked = read(tmp_path / file)
    shown = json.dumps(Manifest(base=locked.base).to_dict()) + repr(locked)
    assert "hunter2" not in shown
    assert "tk-1" not in shown
    assert locked.base == read(file).base
    (note,) = (note for note in locked.notes if note.subject == "conda.anaconda.org")
    assert "is left out" in note.message
    # Nor into errors.
    (tmp_path / file).write_text(secret.replace("linux-64/python", "linux-64/python/", 1))
    with pytest.raises(LockError) as error:
        read(tmp_path / file)
    assert "hunter2" not in " ".join((error.value.message, *error.value.causes))


def test_every_offender_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    lines = (DATA / "explicit.txt").read_text().splitlines()
    file.write_text("\n".join([*lines, "numpy=1.0", lines[-1], lines[-1][:-72]]))
    with pytest.raises(LockError) as error:
        read(file)
    assert error.value.causes == (
        "Expected the URL of a conda package, found `numpy=1.0`",
        "`tzdata` is there twice",
        f"`{lines[-1][:-72]}` has neither sha256 nor md5",
    )
