"""What is packed is what its digest was made of, also while somebody saves files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import zstd
from envboot.errors import LayerError
from envboot.layer import find_archive, project_files, tree
from tests.layer.code import build, found, write
from tests.layer.projects import build as build_projects
from tests.layer.projects import write_project

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.layer import BuiltLayer

pytestmark = pytest.mark.subprocess


def content(layer: BuiltLayer | None) -> bytes:
    assert layer
    return b"".join(zstd.decode_all(layer.path.read_bytes()))


def test_code_that_is_saved_while_it_is_packed_goes_under_its_own_digest(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "work", {"pkg/__init__.py": "VERSION='A'\n"})
    real = tree.install_code
    saved: list[Path] = []

    def save_first(*given: Any) -> None:
        if not saved:
            saved.append(write(folder, {"pkg/__init__.py": "VERSION='B'\n"}))
        real(*given)

    monkeypatch.setattr(tree, "install_code", save_first)
    second = build(found(folder, "pkg"), cache=cache)
    assert b"VERSION='B'" in content(second)
    write(folder, {"pkg/__init__.py": "VERSION='A'\n"})
    first = build(found(folder, "pkg"), cache=cache)
    assert b"VERSION='A'" in content(first)
    assert first
    assert second
    assert first.manifest.digest != second.manifest.digest


def test_code_that_never_rests_is_refused_by_name(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "work", {"pkg/__init__.py": "", "pkg/log.txt": "0"})
    real = tree.install_code

    def save_always(*given: Any) -> None:
        with (folder / "pkg/log.txt").open("a") as stream:
            stream.write("more")
        real(*given)

    monkeypatch.setattr(tree, "install_code", save_always)
    with pytest.raises(LayerError, match="its files change while they are read") as caught:
        build(found(folder, "pkg"), cache=cache)
    assert caught.value.causes == (f"`{folder}/pkg/log.txt`",)
    assert not list((cache / "layers").glob("*.tar.zst"))


def test_a_project_that_is_saved_while_it_is_copied_is_copied_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_project(tmp_path / "demo")
    module = tmp_path / "demo/demo/__init__.py"
    module.write_text("VERSION='A'\n")
    real = project_files.copy_files
    saved: list[str] = []

    def save_first(*given: Any) -> Any:
        if not saved:
            saved.append("B")
            module.write_text("VERSION='B'\n")
        return real(*given)

    monkeypatch.setattr("envboot.layer.build.copy_files", save_first)
    assert b"VERSION='B'" in content(build_projects(source, cache=cache))
    module.write_text("VERSION='A'\n")
    assert b"VERSION='A'" in content(build_projects(source, cache=cache))


def test_a_cached_layer_with_one_wrong_byte_is_packed_again(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "work", {"pkg/__init__.py": "VERSION='A'\n" + "#" * 1000})
    layer = build(found(folder, "pkg"), cache=cache)
    assert layer
    whole = layer.path.read_bytes()
    layer.path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    assert find_archive(layer.manifest, cache) is None
    again = build(found(folder, "pkg"), cache=cache)
    assert again
    assert (again.cached, again.path, again.path.read_bytes()) == (False, layer.path, whole)
    assert build(found(folder, "pkg"), cache=cache).cached  # type: ignore[union-attr]
    assert find_archive(layer.manifest, cache) == layer.path
