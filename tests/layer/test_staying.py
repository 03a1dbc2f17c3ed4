"""What lies beside code and does not travel: it is told, and `include` brings it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import LayerError
from tests.layer.code import build, found, shipped, write
from tests.layer.projects import build as build_projects
from tests.layer.projects import git, unpack, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.layer import BuiltLayer

pytestmark = pytest.mark.subprocess


def messages(layer: BuiltLayer | None) -> list[str]:
    assert layer is not None
    return [note.message for note in layer.notes]


def test_what_a_projects_wheel_lacks_is_told_though_it_was_kept(
    tmp_path: Path, cache: Path
) -> None:
    files = {
        "src/demo/__init__.py": "",
        "src/demo/gen.py": "",
        "src/demo/.hidden": "",
        "src/demo/__pycache__/a.pyc": "",
        ".gitignore": "gen.py\ntables/\n_fast*\n",
        "src/demo/tables/a.csv": "",
        "src/demo/tables/b.csv": "",
        "src/demo/_fast.pyx": "",
        "src/demo/_fast.cpython-38-x86_64-linux-gnu.so": "",
        "demo/x.csv": "no package",
        "notes.txt": "",
    }
    elf = {"demo/_fast.cpython-311-x86_64-linux-gnu.so": ""}
    tiny = {"elf": elf, "tag": "py3-none-linux_x86_64"}
    source = write_project(tmp_path / "p", files=files, packages=("src/demo",), tiny=tiny)
    for _ in range(2):
        (note,) = build_projects(source, cache=cache).notes
        assert note.subject == "demo"
        assert (
            "missing from the project's wheel): `demo/gen.py`, `demo/tables/`; declare"
            in note.message
        )


def test_a_project_whose_wheel_has_everything_is_no_matter(tmp_path: Path, cache: Path) -> None:
    files = {"demo/__init__.py": "", "demo/a.csv": "", "demo/empty/__pycache__/a.pyc": ""}
    source = write_project(tmp_path / "p", files=files)
    (tmp_path / "p" / "demo" / "empty" / "__pycache__").joinpath("a.pyc").rename(tmp_path / "a.pyc")
    assert build_projects(source, cache=cache).notes == ()


def test_what_is_no_file_beside_code_stops_nothing(tmp_path: Path, cache: Path) -> None:
    app = write(tmp_path / "app", {"main.py": "", "pkg/__init__.py": ""})
    (app / "loop.py").symlink_to("loop.py")
    (app / "pkg" / "loop.py").symlink_to("loop.py")
    os.mkfifo(app / "queue")
    os.mkfifo(app / "pkg" / "queue.py")
    layer = build(found(app, "main.py", "pkg"), cache=cache)
    assert any("Not sent (not Python code): `queue`" in message for message in messages(layer))


@pytest.mark.parametrize("has_git", [True, False])
def test_data_beside_code_is_told_once(tmp_path: Path, cache: Path, has_git: bool) -> None:
    app = write(
        tmp_path / "app",
        {
            "main.py": "",
            "config.yaml": "",
            "data/a.csv": "",
            "my-script.py": "",
            "demo/__init__.py": "a project's, which is no loose code",
            "params.json": "",
            ".gitignore": "big/\n*.ckpt\n",
            ".env": "",
            "big/a": "",
            "m.ckpt": "",
            "out/log": "",
            "README.md": "",
            "uv.lock": "",
            "venv/pyvenv.cfg": "",
            "lib/other/x.py": "",
        },
    )
    if has_git:
        git(app, "init", "--quiet")
    given = (found(app, "main.py"), found(app / "lib" / "other", "x.py", origin="pth"))
    layer = build(*given, cache=cache, exclude=("out/",))
    some = "`config.yaml`, `data`, `my-script.py` and 1 more"
    assert messages(layer) == [
        f"Not sent (not Python code): {some}; name it in the command, or in `include`"
    ]
    (message,) = messages(build(found(app, "main.py", origin="pythonpath"), cache=cache))
    assert f"{some}, `out`" not in message
    assert "to send it, write `include = [" in message


def test_a_project_in_the_folder_does_not_stay(tmp_path: Path, cache: Path) -> None:
    app = write(tmp_path / "app", {"main.py": ""})
    source = write_project(app / "libs" / "p")
    assert messages(build(found(app, "main.py"), cache=cache, sources=(source,))) == []
    for package in ("src/demo", "demo"):
        folder = tmp_path / package.replace("/", " ")
        files = {f"{package}/a.py": "", "run.py": ""}
        project = write_project(folder, files=files, packages=(package,))
        layer = build(found(folder, "run.py"), cache=cache, sources=(project,))
        (message,) = messages(layer)
        assert "code): `tiny.json`;" in message


@pytest.mark.parametrize("has_git", [True, False])
def test_include_brings_data_whatever_git_ignores(
    tmp_path: Path, cache: Path, has_git: bool
) -> None:
    app = write(
        tmp_path / "app",
        {
            "main.py": "",
            "a.yaml": "",
            "deep/b.yaml": "",
            "deep/.venv/pyvenv.cfg": "",
            "deep/.venv/c.yaml": "",
            "data/a.csv": "",
            "data/x.tmp": "",
            "tool/a.py": "",
            "tool/data/t.csv": "",
            "tool/more/t.csv": "",
            ".gitignore": "data/\nmore/\n",
        },
    )
    write(tmp_path, {"shared/z.csv": ""})
    (app / "link").symlink_to(tmp_path / "shared")
    if has_git:
        git(app, "init", "--quiet")
    include = ("data/", "link/", "*.yaml")
    options: dict[str, Any] = {"cache": cache, "include": include, "exclude": ("*.tmp",)}
    layer = build(found(app, "main.py", "tool"), **options)
    paths = {"a.yaml", "deep/b.yaml", "data/a.csv", "link/z.csv"}
    code = {"main.py", "tool/a.py", "tool/data/t.csv"}
    assert layer
    assert shipped(unpack(layer, tmp_path / "out")) == paths | code
    assert messages(layer) == [
        "`.gitignore` leaves out `tool/more/`",
        "`exclude` leaves out `data/x.tmp`",
    ]
    alone = build(found(app), **options)
    assert alone
    assert shipped(unpack(alone, tmp_path / "alone")) >= paths
    elsewhere = build(found(app, "main.py", origin="pythonpath"), **options)
    assert elsewhere
    assert {file.path for file in elsewhere.code.files} == {"main.py"}


def test_what_is_included_counts_for_the_limit(tmp_path: Path, cache: Path) -> None:
    app = write(tmp_path / "app", {"main.py": "", "data/a": "x" * 1_100_000})
    assert build(found(app, "main.py"), cache=cache, loose_limit=1)
    with pytest.raises(LayerError, match="at most 1 MB"):
        build(found(app, "main.py"), cache=cache, loose_limit=1, include=("data/",))
