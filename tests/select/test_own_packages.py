"""envboot and what only it needs are not sent, unless something else uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings
from envboot.lock.target import Target
from envboot.scan.schema import Loose
from envboot.selection import Selection
from envboot.selection.apply import CHOSEN, select
from envboot.selection.own_packages import find_own
from tests.index import make_wheel
from tests.scan.environments import install, make_venv, scan_prefix, site_packages
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.schema import Scan

pytestmark = pytest.mark.subprocess
ALL = frozenset({"envboot", "click", "colour", "yaml-reader"})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """What real uv made: envboot, what it needs, and a package that shares one of these."""
    folder = tmp_path_factory.mktemp("own")
    make_wheel(folder, "colour")
    make_wheel(folder, "click", requires=["colour"])
    make_wheel(folder, "shared")
    make_wheel(folder, "yaml-reader", files={"yaml/__init__.py": "", "_yaml.py": ""})
    make_wheel(folder, "app", requires=["shared"])
    make_wheel(folder, "envboot", requires=["click", "shared", "yaml-reader"])
    prefix = make_venv(folder / "venv")
    install(prefix, "--find-links", folder, "envboot", "app")
    return scan_prefix(prefix)


def find(
    found: Scan,
    folder: Path,
    *,
    named: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
) -> frozenset[str]:
    session = make_session(folder=folder)
    return find_own(found, Selection(only=named), session, words=words)


def with_code(found: Scan, folder: Path, text: str, name: str = "job.py") -> Scan:
    (folder / name).write_text(text)
    return replace(found, loose=(Loose(folder=str(folder), origin="current", names=(name,)),))


def test_what_another_package_needs_is_sent(found: Scan, tmp_path: Path) -> None:
    assert find(found, tmp_path) == ALL
    distributions = tuple(item for item in found.distributions if item.name != "envboot")
    assert find(replace(found, distributions=distributions), tmp_path) == frozenset()


def test_what_is_named_is_sent_with_what_it_needs(found: Scan, tmp_path: Path) -> None:
    assert find(found, tmp_path, named=("Click",)) == {"envboot", "yaml-reader"}
    assert find(found, tmp_path, named=("envboot",)) == frozenset()
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["envboot", "YAML_reader>=1"]\n'
        '[dependency-groups]\ndev = ["colour", {include-group = "x"}]\n'
    )
    assert find(found, tmp_path) == {"envboot", "click"}


def test_what_pip_installed_by_its_name_is_sent(tmp_path: Path) -> None:
    for name, requires in (("envboot", ["click", "colour"]), ("click", []), ("colour", [])):
        make_wheel(tmp_path, name, requires=requires)
    prefix = make_venv(tmp_path / "venv")
    install(prefix, "--find-links", tmp_path, "envboot")
    site = site_packages(prefix)
    assert (site / "click-1.0.dist-info/REQUESTED").exists()
    assert find(scan_prefix(prefix), tmp_path) == {"envboot", "click", "colour"}
    for entry in site.glob("*.dist-info"):
        (entry / "INSTALLER").write_text("pip\n")
    (site / "colour-1.0.dist-info/REQUESTED").unlink()
    assert find(scan_prefix(prefix), tmp_path) == {"envboot", "colour"}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("import os, yaml.nodes as y\n", {"envboot", "click", "colour"}),
        ("def late():\n    from click.core import Option\n", {"envboot", "yaml-reader"}),
        ('importlib.import_module("colour")\n', {"envboot", "click", "yaml-reader"}),
        ("from envboot import scan_here\n", set()),
        ("# click\nclick = 1\n", ALL),
    ],
)
def test_what_the_code_imports_is_sent(
    found: Scan, tmp_path: Path, text: str, rest: set[str]
) -> None:
    assert find(with_code(found, tmp_path, text), tmp_path) == rest


def test_a_notebook_counts_as_code(found: Scan, tmp_path: Path) -> None:
    text = '{"cells": [{"source": ["x = 1\\n", "import click"]}]}'
    assert "click" not in find(with_code(found, tmp_path, text, "a.ipynb"), tmp_path)


@pytest.mark.parametrize("words", [("python", "-m", "click"), ("python", "-c", "import click")])
def test_what_the_command_uses_is_sent(found: Scan, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert find(found, tmp_path, words=words) == {"envboot", "yaml-reader"}


def test_what_is_left_is_a_row_of_the_plan_with_its_reason(found: Scan, tmp_path: Path) -> None:
    selected = select(
        found,
        Selection(),
        settings=Settings(),
        target=Target(platform=found.platform, glibc="2.28", host_python=False),
        own=find(found, tmp_path),
    )
    assert {row.name for row in selected.rows if row.status == "dropped"} == ALL
    assert {row.reason for row in selected.rows} <= CHOSEN
    assert {item.name for item in selected.scan.distributions} == {"app", "shared"}
    assert selected.notes == ()
