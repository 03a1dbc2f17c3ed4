"""What is built now does not stand for what is installed without a word."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from envboot.layer import build_parts
from envboot.scan.projects import find_sources
from tests.index import make_wheel
from tests.layer.projects import GUEST, VERSION, write_project
from tests.scan.environments import install, make_venv, scan_prefix, site_packages
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.installed import Replaced

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment that tests copy nothing of: each installs a project of its own."""
    return make_venv(tmp_path_factory.mktemp("bare") / "venv")


def compare(prefix: Path, cache: Path, name: str) -> Replaced | None:
    """Build what is installed as `name`, and return how that differs."""
    found = scan_prefix(prefix)
    sources = [source for source in find_sources(found) if source.name == name]
    parts = build_parts(
        sources,
        make_session(cache=cache),
        python=sys.executable,
        version=VERSION,
        target=GUEST,
        scan=found,
    )
    messages = [note.message for note in parts.notes if note.subject == name]
    replaced = next(iter(parts.replaced), None)
    assert bool(replaced) == any("Differs from what is installed" in each for each in messages)
    return replaced


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({}, None),
        ({"README.md": "no part of the wheel\n"}, None),
        ({"demo/__init__.py": "NAME = 'edited later'\n"}, "`demo/__init__.py` differs"),
        # Nothing but the content tells it from what is installed.
        ({"demo/__init__.py": "NAME = 'dEmo'\n"}, "`demo/__init__.py` differs"),
        ({"demo/new.py": ""}, "`demo/new.py` differs"),
        ({"demo/data.csv": None}, "`demo/data.csv` differs"),
        ({"demo/data.csv": "2\n", "demo/__init__.py": ""}, "`demo/data.csv` differ from"),
    ],
)
def test_a_folder_that_was_edited_since_its_installation_is_named(
    bare: Path, tmp_path: Path, cache: Path, edits: dict[str, str | None], said: str | None
) -> None:
    project = tmp_path / "p"
    write_project(project, files={"demo/__init__.py": "NAME = 'demo'\n", "demo/data.csv": "1\n"})
    install(bare, "--reinstall", project)
    for path, text in edits.items():
        if text is None:
            (project / path).unlink()
        else:
            (project / path).write_text(text)
    replaced = compare(bare, cache, "demo")
    assert (replaced is None) == (said is None)
    assert replaced is None or (said or "") in replaced.reason


def test_what_was_edited_in_site_packages_differs_from_its_unchanged_folder(
    bare: Path, tmp_path: Path, cache: Path
) -> None:
    write_project(tmp_path / "p", "patched")
    install(bare, "--reinstall", tmp_path / "p")
    module = site_packages(bare) / "patched" / "__init__.py"
    module.unlink()  # it may be a link into uv's cache
    module.write_text("NAME = 'PATCHED'\n")
    replaced = compare(bare, cache, "patched")
    assert replaced
    assert "`patched/__init__.py` differs" in replaced.reason


@pytest.mark.parametrize("by", ["pip", "uv"])
def test_a_wheel_file_that_was_replaced_under_its_name_is_named(
    bare: Path, tmp_path: Path, cache: Path, by: str
) -> None:
    wheel = make_wheel(tmp_path, f"by-{by}", text="V = 1\n").path
    if by == "pip":
        command = [sys.executable, "-m", "pip", "--python", f"{bare}/bin/python", "install", "-q"]
        subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
    else:
        install(bare, wheel)
    assert compare(bare, cache, f"by-{by}") is None
    make_wheel(tmp_path, f"by-{by}", text="V = 2\n")
    replaced = compare(bare, cache, f"by-{by}")
    assert replaced
    assert f"`by_{by}.py` differs" in replaced.reason
    # Only pip records the file's hash.
    assert (f"`{wheel.name}` has been replaced" in replaced.reason) == (by == "pip")


@pytest.mark.parametrize("editable", [True, False])
def test_a_version_that_the_build_makes_otherwise_is_no_same_version(
    bare: Path, tmp_path: Path, cache: Path, editable: bool
) -> None:
    name = "moving-editable" if editable else "moving"
    module = name.replace("-", "_")
    project = tmp_path / "p"
    write_project(project, name, version="1.0.7", files={f"{module}/__init__.py": ""})
    _install_editable(bare, project, name, "1.0.7") if editable else install(bare, project)
    write_project(project, name, version="1.0.0", files={f"{module}/__init__.py": ""})
    replaced = compare(bare, cache, name)
    assert replaced
    assert (replaced.name, replaced.version) == (name, "1.0.0")
    assert replaced.reason == "1.0.7 is installed, and its project builds 1.0.0"


def test_entry_points_of_an_editable_that_changed_since_are_named(
    bare: Path, tmp_path: Path, cache: Path
) -> None:
    project = tmp_path / "p"
    write_project(project, "tool", scripts={"tool": "tool:main"})
    _install_editable(bare, project, "tool", "1.0", "[console_scripts]\ntool = tool:main\n")
    (project / "tool" / "__init__.py").write_text("EDITED = 1\n")
    assert compare(bare, cache, "tool") is None
    write_project(project, "tool", scripts={"tool": "tool:other"})
    replaced = compare(bare, cache, "tool")
    assert replaced
    assert replaced.reason == "`entry_points.txt` differs from what is installed"


def test_compiled_code_is_said_to_be_compiled_again_and_not_edited(
    bare: Path, tmp_path: Path, cache: Path
) -> None:
    project = tmp_path / "p"
    files = {"native/__init__.py": ""}
    kept: dict[str, Any] = {"elf": {"native/_x.so": "first build"}}
    write_project(project, "native", files=files, tiny=kept)
    install(bare, project)
    assert compare(bare, cache, "native") is None
    write_project(project, "native", files=files, tiny={"elf": {"native/_x.so": "second build"}})
    replaced = compare(bare, cache, "native")
    assert replaced
    assert replaced.reason == "`native/_x.so` was compiled again"


def _install_editable(
    prefix: Path, project: Path, name: str, version: str, entry_points: str = ""
) -> None:
    """Leave what an editable installation does; the tests' backend makes no such wheel."""
    wheel = make_wheel(
        project.parent,
        name,
        version,
        files={
            f"{name}.pth": f"{project}\n",
            **(
                {f"{name.replace('-', '_')}-{version}.dist-info/entry_points.txt": entry_points}
                if entry_points
                else {}
            ),
        },
    )
    install(prefix, wheel.path)
    info = site_packages(prefix) / f"{name.replace('-', '_')}-{version}.dist-info"
    text = f'{{"url": "{project.as_uri()}", "dir_info": {{"editable": true}}}}'
    (info / "direct_url.json").unlink()
    (info / "direct_url.json").write_text(text)
