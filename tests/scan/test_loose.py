"""Code that belongs to no distribution: what of it is found, and what stays here and why."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from envboot.scan.loose import PathEntry, find_loose, list_places
from envboot.scan.schema import Distribution, Loose, Problem, Scan
from tests.scan.environments import run
from tests.scan.test_document import SCAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.scan.loose import Origin

# Not below a home folder, and without git's own settings of whoever runs this.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "GIT_CONFIG_GLOBAL": "/dev/null"}


def write(folder: Path, *paths: str) -> Path:
    """Make empty files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def look(
    *places: PathEntry | Path,
    projects: Sequence[tuple[Path, Sequence[str]]] = (),
    environment: dict[str, str] = ENVIRONMENT,
) -> tuple[tuple[Loose, ...], tuple[Problem, ...]]:
    """Find loose code; a mere path is the current folder, a project is installed editable."""
    scan: Scan = replace(
        SCAN,
        distributions=tuple(
            Distribution(
                name=f"project{number}",
                version="1",
                location="/v",
                direct_url={"url": f"file://{quote(str(folder))}", "dir_info": {"editable": True}},
                editable=True,
            )
            for number, (folder, _) in enumerate(projects)
        ),
    )
    return find_loose(
        scan,
        [
            place if isinstance(place, PathEntry) else PathEntry(folder=place, origin="current")
            for place in places
        ],
        {f"project{number}": names for number, (_, names) in enumerate(projects)},
        environment=environment,
    )


def names(
    *places: PathEntry | Path, projects: Sequence[tuple[Path, Sequence[str]]] = ()
) -> list[str]:
    """Return the names that are found in the first place that has some."""
    loose, _ = look(*places, projects=projects)
    return list(loose[0].names) if loose else []


def on(origin: Origin, folder: Path, *strays: str) -> PathEntry:
    return PathEntry(folder=folder, origin=origin, names=strays)


def test_modules_packages_and_namespace_packages_are_found(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "package/__init__.py", "package/table.csv", "space/part/deep.py",
          "data/table.csv", "README.md", "config.yaml")  # fmt: skip
    assert look(tmp_path) == (
        (Loose(folder=str(tmp_path), origin="current", names=("package", "space", "train.py")),),
        (),
    )


def test_what_cannot_be_imported_by_its_name_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, "my-script.py", "my-code/a.py", "data/2024/a.py", ".hidden/a.py", "setup.py",
          "a.pyc", "notes.py.bak")  # fmt: skip
    assert names(tmp_path) == []


def test_a_link_that_leads_to_itself_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "one.py", "pkg/inner.py")
    for name in ("loop", "loop2.py", "pkg/loop"):
        (tmp_path / name).symlink_to(tmp_path / name)
    assert names(tmp_path) == ["one.py", "pkg"]


def test_extension_modules_of_this_interpreter_are_found(tmp_path: Path) -> None:
    write(tmp_path, "plain.so", "stable.abi3.so", "own.cpython-311-x86_64-linux-gnu.so",
          "other.cpython-39-x86_64-linux-gnu.so", "pack/inner.cpython-311-darwin.so")  # fmt: skip
    assert names(tmp_path) == [
        "own.cpython-311-x86_64-linux-gnu.so", "pack", "plain.so", "stable.abi3.so",
    ]  # fmt: skip


def test_environments_and_what_builds_and_tools_leave_are_not_code(tmp_path: Path) -> None:
    write(tmp_path, ".venv/lib/a.py", "env/pyvenv.cfg", "env/bin/a.py", "conda/conda-meta/history",
          "conda/bin/a.py", "node_modules/gyp/a.py", "build/lib/mine/__init__.py", "dist/a.py",
          "__pycache__/a.py", "site-packages/a.py", "mine.egg-info/a.py")  # fmt: skip
    assert names(tmp_path) == []


def test_a_package_may_be_called_build(tmp_path: Path) -> None:
    assert names(write(tmp_path, "build/__init__.py")) == ["build"]


def test_code_inside_an_environments_own_folder_is_found(tmp_path: Path) -> None:
    write(tmp_path, "pyvenv.cfg", "bin/activate_this.py", "lib/x.py", "train.py")
    assert names(tmp_path) == ["train.py"]


def test_two_folders_of_one_base_name_both_arrive(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a/code", "x.py"), write(tmp_path / "b/code", "x.py")
    loose, problems = look(on("pythonpath", one), on("pth", two))
    assert [each.folder for each in loose] == [str(one), str(two)]
    assert problems == ()


def test_a_folder_that_is_reached_twice_arrives_once_where_it_is_looked_into_first(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "code", "x.py")
    (tmp_path / "link").symlink_to(folder)
    loose, _ = look(on("pythonpath", folder), on("current", tmp_path / "link"), on("pth", folder))
    assert [(each.folder, each.origin) for each in loose] == [(str(folder), "pythonpath")]


def test_pythonpath_comes_behind_the_current_folder_and_in_its_order(
    tmp_path: Path,
) -> None:
    path = os.pathsep.join(["/b", "", "a"])
    assert list_places(tmp_path, {"PYTHONPATH": path}) == [
        on("current", tmp_path), on("pythonpath", Path("/b")), on("pythonpath", tmp_path / "a"),
    ]  # fmt: skip
    assert list_places(tmp_path, {"PYTHONPATH": "a"}, current=False) == [
        on("pythonpath", tmp_path / "a")
    ]


@pytest.mark.parametrize("origin", ["current", "pth", "pythonpath"])
def test_an_installed_projects_own_package_is_not_loose_and_modules_beside_it_are(
    origin: Origin, tmp_path: Path
) -> None:
    write(tmp_path, "mine/__init__.py", "tool.py", "pyproject.toml")
    assert names(on(origin, tmp_path), projects=[(tmp_path, ["mine"])]) == ["tool.py"]


def test_an_editable_project_that_does_not_say_what_it_provides_keeps_its_packages(
    tmp_path: Path,
) -> None:
    write(tmp_path, "other_name/__init__.py", "tool.py")
    assert names(on("pth", tmp_path), projects=[(tmp_path, ["mine"])]) == ["tool.py"]


@pytest.mark.parametrize("declared", [["mine"], ["another_name"]])
def test_a_src_layout_arrives_once(declared: list[str], tmp_path: Path) -> None:
    write(tmp_path, "src/mine/__init__.py", "train.py", "pyproject.toml")
    project = (tmp_path, declared)
    loose, problems = look(tmp_path, on("pth", tmp_path / "src"), projects=[project])
    assert [each.names for each in loose] == [("train.py",)]
    assert problems == ()


def test_a_folder_that_is_on_the_path_itself_is_not_part_of_the_one_around_it(
    tmp_path: Path,
) -> None:
    write(tmp_path, "src/mine/__init__.py", "train.py")
    loose, _ = look(tmp_path, on("pythonpath", tmp_path / "src"))
    assert [(Path(each.folder).name, each.names) for each in loose] == [
        (tmp_path.name, ("train.py",)), ("src", ("mine",)),
    ]  # fmt: skip


def test_of_site_packages_only_strays_are_loose(tmp_path: Path) -> None:
    write(tmp_path, "numpy/__init__.py", "mine.py", "leftovers/table.csv", "helper/__init__.py")
    assert names(on("site", tmp_path, "helper", "leftovers", "mine.py")) == ["helper", "mine.py"]


def test_a_link_into_an_installed_project_is_not_a_stray(tmp_path: Path) -> None:
    write(tmp_path / "project", "mine/__init__.py")
    site = write(tmp_path / "site")
    site.mkdir()
    (site / "mine").symlink_to(tmp_path / "project/mine")
    project = (tmp_path / "project", ["mine"])
    assert names(on("site", site, "mine"), projects=[project]) == []


def test_a_home_folder_and_the_root_stay_here_and_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, "train.py")
    loose, (problem,) = look(tmp_path, environment={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert loose == ()
    assert problem == Problem(
        subject=str(tmp_path),
        message="Is a home folder: the code in it (`train.py`) stays here; give it its own folder",
    )


def test_a_home_folder_without_code_is_not_mentioned(tmp_path: Path) -> None:
    assert look(tmp_path, environment={**ENVIRONMENT, "HOME": str(tmp_path)}) == ((), ())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "Is on `PYTHONPATH`, but is gone"),
        ("code.zip", "Is an archive on `PYTHONPATH`: unpack it, or install it with pip"),
        (
            "site-packages",
            "Is on `PYTHONPATH`, and so no part of the environment: install its packages there",
        ),
    ],
)
def test_what_cannot_travel_from_pythonpath_is_said(
    name: str, message: str, tmp_path: Path
) -> None:
    write(tmp_path, "code.zip", "site-packages/x.py")
    assert look(on("pythonpath", tmp_path / name)) == (
        (),
        (Problem(subject=str(tmp_path / name), message=message),),
    )


@pytest.mark.subprocess
def test_what_git_ignores_stays_here_and_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "scratch/a.py", "code/kept.py", "code/left.py")
    (tmp_path / ".gitignore").write_text("/scratch/\n")
    (tmp_path / "code/.gitignore").write_text("left.py\n")
    run("git", "init", "-q", tmp_path)
    loose, problems = look(tmp_path, on("pythonpath", tmp_path / "code"))
    assert [each.names for each in loose] == [("train.py",), ("kept.py",)]
    assert problems == tuple(
        Problem(subject=str(tmp_path / name), message="Is ignored by git: it does not travel")
        for name in ("scratch", "code/left.py")
    )


def test_code_is_found_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = write(tmp_path / "odd % 'näme\"", "x.py", "mine.py")
    assert names(folder, projects=[(folder, ["mine.py"])]) == ["x.py"]
