"""Archives of source trees: what their content says they are, and what may not be in one."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.errors import LayerError
from envboot.layer.archives import UnpackError, unpack
from envboot.scan.schema import Source
from tests.layer.projects import build, write_project
from tests.layer.projects import unpack as open_layer

if TYPE_CHECKING:
    from pathlib import Path


def write_zip(archive: Path, **files: str) -> Path:
    with zipfile.ZipFile(archive, "w") as opened:
        for name, text in files.items():
            info = zipfile.ZipInfo(name.replace("__", "/"))
            info.external_attr = (0o755 if name.endswith("configure") else 0o644) << 16
            opened.writestr(info, text)
    return archive


def write_tar(archive: Path, mode: str, *members: tuple[str, str | None]) -> Path:
    """Write a tar; a member without text is a link to `/etc/passwd`."""
    with tarfile.open(archive, mode) as opened:  # type: ignore[call-overload]
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text or "")
            if text is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            opened.addfile(info, io.BytesIO((text or "").encode()))
    return archive


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_known_by_its_content_and_gives_its_only_directory(
    mode: str, tmp_path: Path
) -> None:
    archive = write_tar(tmp_path / "main", mode, ("repo-main/setup.py", "x"))
    tree = unpack(archive, tmp_path / "tree")
    assert tree == tmp_path / "tree" / "repo-main"
    assert (tree / "setup.py").read_text() == "x"


def test_a_zip_keeps_what_may_be_run(tmp_path: Path) -> None:
    tree = unpack(write_zip(tmp_path / "main", configure="x", setup="y"), tmp_path / "tree")
    assert tree == tmp_path / "tree"
    assert os.access(tree / "configure", os.X_OK)
    assert not (tree / "setup").stat().st_mode & 0o111


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    write_zip(tmp_path / "up", **{"..__gone": "x", "a": "y"})
    unpack(tmp_path / "up", tmp_path / "inner" / "tree")
    assert not (tmp_path / "inner" / "gone").exists()
    for name in ("../gone", "link"):
        archive = write_tar(tmp_path / "tar", "w", (name, None if name == "link" else "x"))
        with pytest.raises(UnpackError):
            unpack(archive, tmp_path / name.strip("./") / "tree")
    archive = write_tar(tmp_path / "tar", "w", (f"{tmp_path}/gone", "x"), ("other", "y"))
    tree = unpack(archive, tmp_path / "rooted")
    assert (tree / str(tmp_path)[1:] / "gone").read_text() == "x"
    assert not (tmp_path / "gone").is_file()


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04cut", b"\x1f\x8bcut", b"BZhcut"])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(data)
    with pytest.raises(UnpackError):
        unpack(tmp_path / "archive", tmp_path / "tree")


def test_a_tree_that_is_too_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envboot.layer.archives._MOST", 3)
    with pytest.raises(UnpackError, match="more than any source tree"):
        unpack(write_zip(tmp_path / "main", a="four"), tmp_path / "tree")
    assert list((tmp_path / "tree").iterdir()) == []


@pytest.mark.subprocess
def test_a_repositorys_archive_is_built_from_its_subdirectory(tmp_path: Path, cache: Path) -> None:
    write_project(tmp_path / "repo-main" / "python", "demo")
    archive = tmp_path / "demo-1.0.archive"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tmp_path / "repo-main", "repo-main")
    source = Source(name="demo", version="1.0", path=str(archive), subdirectory="python")
    opened_layer = open_layer(build(source, cache=cache), tmp_path / "out")
    assert opened_layer.site("demo/__init__.py") == "NAME = 'demo'\n"
    for subdirectory in ("gone", "../..", "/etc"):
        with pytest.raises(LayerError, match="Cannot find"):
            build(replace(source, subdirectory=subdirectory), cache=cache)
