"""What lies in a prefix outside of site-packages, and was installed by no package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from envboot.scan.probe.found import Environment
from envboot.scan.probe.placed import report_placed
from tests.index import make_wheel
from tests.scan.environments import install, make_venv, scan_prefix

if TYPE_CHECKING:
    from pathlib import Path

SITE = "lib/python3.11/site-packages"


def lay(prefix: Path, *paths: str, text: str = "") -> None:
    for path in paths:
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(text)


def report(
    prefix: Path, record: str = "", *, conda: bytes = b"[]", is_conda: bool = False
) -> dict[str, str]:
    found = Environment()
    found.records = [(f"{prefix}/{SITE}", record.encode())]
    found.files = [conda]
    report_placed(found, str(prefix), is_conda=is_conda)
    return {os.path.relpath(each["subject"], prefix): each["message"] for each in found.problems}


def test_programs_and_data_of_no_package_are_named(tmp_path: Path) -> None:
    lay(tmp_path, "bin/python3", "bin/activate.fish", "bin/pip3.11", "bin/theirs", "bin/mine")
    lay(
        tmp_path,
        "bin/__pycache__/x.pyc",
        "share/a/listed",
        "share/a/more",
        "share/kernels/k/k.json",
    )
    lay(tmp_path, "etc/conf")
    (tmp_path / "share/empty").mkdir()
    rows = "../../../bin/theirs,sha256=x,1\n../../../share/a/listed,,\nmod.py,,\n"
    assert report(tmp_path, rows) == {
        "bin": "Not sent (no package installed it): `mine`",
        "share": "Not sent (no package installed it): `a/more`, `kernels`",
        "etc": "Not sent (no package installed it): `conf`",
    }
    quoted = f'"{tmp_path}/bin/mine",,\n'
    assert "bin" not in report(tmp_path, rows + quoted)


def test_what_conda_lists_and_what_setuptools_makes_again_is_no_matter(tmp_path: Path) -> None:
    lay(tmp_path, "bin/theirs", "share/cache")
    lay(tmp_path, "bin/entry", text="#!/x/python\n# EASY-INSTALL-ENTRY-SCRIPT: 'a','c','b'\n")
    assert report(tmp_path, conda=b'["bin/theirs"]', is_conda=True) == {}


@pytest.mark.subprocess
def test_an_environment_as_its_tools_leave_it_has_nothing_to_name(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "venv")
    install(prefix, make_wheel(tmp_path, "one").path)
    assert scan_prefix(prefix).problems == ()
    lay(prefix, "bin/by-hand")
    [problem] = scan_prefix(prefix).problems
    assert problem.subject == f"{os.path.realpath(prefix)}/bin"
    assert problem.message == "Not sent (no package installed it): `by-hand`"
