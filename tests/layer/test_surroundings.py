"""A cached wheel is never older than anything that its build can read."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envboot.layer import build_parts, surroundings
from envboot.layer.surroundings import digest_surroundings
from tests.index import make_wheel, serve_folder, write_simple
from tests.layer.projects import GUEST, VERSION, build, commit_all, git, unpack, write_project
from tests.lock.documents import make_distribution, make_scan
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.schema import Source

pytestmark = pytest.mark.subprocess

# Adds what it finds around the project to its package.
READER = """\
import json, pathlib
from backend import *
import backend
def build_wheel(directory, config_settings=None, metadata_directory=None):
    tiny = json.loads(pathlib.Path("tiny.json").read_text())
    found = pathlib.Path("demo", "found.txt")
    found.write_text("".join(pathlib.Path(path).read_text() for path in tiny["reads"]))
    return backend.build_wheel(directory)
"""


def write_member(top: Path, *reads: str) -> Source:
    """Write a project below a checkout whose build reads these files around it."""
    member = top / "libs" / "member"
    source = write_project(member, tiny={"reads": list(reads)})
    (member / "reader.py").write_text(READER)
    project = (member / "pyproject.toml").read_text()
    (member / "pyproject.toml").write_text(project.replace('"backend"', '"reader"'))
    return source


def read(source: Source, tmp_path: Path, number: list[int]) -> tuple[str, bool]:
    """Build, and return what the build has found and whether its wheel came from the cache."""
    number.append(0)
    layer = build(source, cache=tmp_path / "cache")
    opened = unpack(layer, tmp_path / f"out{len(number)}")
    return opened.site("demo/found.txt"), not layer.built


@pytest.mark.parametrize("place", ["VERSION", "shared/data/table.csv", "libs/other/x.txt"])
@pytest.mark.parametrize("is_ignored", [False, True])
def test_an_edit_beside_the_project_is_in_the_next_wheel(
    tmp_path: Path, place: str, is_ignored: bool
) -> None:
    top, number = tmp_path / "mono", list[int]()
    source = write_member(top, f"../../{place}")
    (top / place).parent.mkdir(parents=True, exist_ok=True)
    (top / place).write_text("one")
    if is_ignored:
        (top / ".gitignore").write_text(f"{place}\n")
    commit_all(top)
    assert read(source, tmp_path, number) == ("one", False)
    assert read(source, tmp_path, number) == ("one", True)
    (top / place).write_text("two")
    assert read(source, tmp_path, number) == ("two", False)


def test_an_edit_behind_a_link_beside_the_project_is_in_the_next_wheel(tmp_path: Path) -> None:
    top, number = tmp_path / "mono", list[int]()
    source = write_member(top, "../../shared/linked/x.txt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.txt").write_text("one")
    (top / "shared").mkdir()
    (top / "shared" / "linked").symlink_to(elsewhere)
    commit_all(top)
    assert read(source, tmp_path, number)[0] == "one"
    (elsewhere / "x.txt").write_text("two")
    assert read(source, tmp_path, number) == ("two", False)


def test_beside_too_many_files_nothing_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, number = tmp_path / "mono", list[int]()
    source = write_member(top, "../../VERSION")
    (top / "VERSION").write_text("one")
    commit_all(top)
    monkeypatch.setattr(surroundings, "MOST", 0)
    assert read(source, tmp_path, number) == ("one", False)
    (top / "VERSION").write_text("two")
    assert read(source, tmp_path, number) == ("two", False)


def test_a_link_beside_the_project_that_leads_to_itself_stops_no_build(tmp_path: Path) -> None:
    top, number = tmp_path / "mono", list[int]()
    source = write_member(top, "../../VERSION")
    (top / "VERSION").write_text("one")
    (top / "libs" / "loop").symlink_to("loop")
    commit_all(top)
    assert read(source, tmp_path, number) == ("one", False)


def test_commits_and_tags_count_and_byte_code_does_not(tmp_path: Path) -> None:
    top = tmp_path / "mono"
    member = top / "libs" / "member"
    write_project(member)
    write_project(top / "libs" / "other", "other")
    commit_all(top)
    seen = [digest_surroundings(member, os.environ)]
    (top / "libs" / "other" / "__pycache__").mkdir()
    (top / "libs" / "other" / "__pycache__" / "x.pyc").write_text("")
    (member / "demo" / "__init__.py").write_text("EDITED = 1\n")
    assert digest_surroundings(member, os.environ) == seen[0]
    git(top, "tag", "v1")
    seen.append(digest_surroundings(member, os.environ))
    git(top, "commit", "--quiet", "--allow-empty", "--message", "empty")
    seen.append(digest_surroundings(member, os.environ))
    git(top, "pack-refs", "--all")
    seen.append(digest_surroundings(member, os.environ))
    assert len(set(seen)) == 4
    assert digest_surroundings(tmp_path / "mono" / "libs", {"HOME": str(top)}) == ""


@pytest.mark.sockets
def test_a_build_finds_what_it_requires_on_the_indexes_that_pip_is_configured_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_OFFLINE")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    index = tmp_path / "index"
    index.mkdir()
    make_wheel(index, "private-backend", files={"private_backend.py": "NAME = 'found.txt'\n"})
    write_simple(index)
    project = tmp_path / "p"
    source = write_project(project)
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(
        text.replace("requires = []", 'requires = ["private-backend"]')
    )
    backend = (project / "backend.py").read_text()
    (project / "backend.py").write_text(
        backend.replace("import json\n", "import json\nimport private_backend\n")
    )
    scan = make_scan(replace(make_distribution("demo"), installer="pip"))
    with serve_folder(index, "user:hunter2") as url:
        variables: dict[str, Any] = {
            **os.environ,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{url.replace('://', '://user:hunter2@')}/simple",
        }
        parts = build_parts(
            [source],
            make_session(cache=cache, folder=tmp_path, environment=variables),
            python=sys.executable,
            version=VERSION,
            target=GUEST,
            scan=scan,
        )
    (built,) = parts.wheels
    assert built.wheel.name == "demo-1.0-py3-none-any.whl"
