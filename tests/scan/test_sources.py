"""Projects that only this machine has are found wherever installers put them down."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from envboot.scan.projects import find_problems, find_sources
from envboot.scan.schema import Distribution, Scan, Source
from tests.index import make_wheel
from tests.scan.environments import complaints, find, install, run, scan_prefix, site_packages
from tests.scan.test_document import SCAN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.2"
"""


def make_project(folder: Path, name: str, layout: str = "flat") -> Path:
    """Write a setuptools project; a flat one of two packages needs setuptools' finder."""
    root = folder / "src" if layout == "src" else folder
    root.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name))
    (root / name).mkdir()
    (root / name / "__init__.py").write_text("")
    return folder


def make_repository(folder: Path) -> str:
    """Commit everything in a folder and return the commit's id."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(folder))
    run(*git, "init", "-q")
    run(*git, "add", ".")
    run(*git, "commit", "-q", "-m", "first")
    return run(*git, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with pip and what projects are built with, so that no build needs a network."""
    prefix = tmp_path_factory.mktemp("template") / "venv"
    run(sys.executable, "-m", "venv", prefix)
    run(find_uv_bin(), "pip", "install", "-q", "--python", prefix / "bin/python",
        "setuptools>=77", "wheel")  # fmt: skip
    return prefix


@pytest.fixture
def prefix(template: Path, tmp_path: Path) -> Path:
    """A venv of its own that sees the template's packages, and the distributions in it."""
    prefix = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", prefix)
    (site_packages(prefix) / "template.pth").write_text(f"{site_packages(template)}\n")
    return prefix


def by_pip(prefix: Path, *arguments: str | Path) -> None:
    options = ("-q", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run(prefix / "bin" / "python", "-m", "pip", "install", *options, *arguments)


def by_uv(prefix: Path, *arguments: str | Path) -> None:
    install(prefix, "--no-build-isolation", *arguments)


both = pytest.mark.parametrize("by", [by_pip, by_uv])


def sources(found: Scan) -> dict[str, Source]:
    return {source.name: source for source in find_sources(found)}


@pytest.mark.subprocess
@both
@pytest.mark.parametrize("layout", ["flat", "src"])
def test_an_editable_project_is_found_at_its_root(
    by: Callable[..., None], layout: str, prefix: Path, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "my próject", "mine", layout)
    by(prefix, "-e", project)
    found = scan_prefix(prefix)
    assert sources(found) == {
        "mine": Source(name="mine", version="1.2", path=str(project), editable=True)
    }
    assert find(found, "mine").editable
    assert found.problems == ()


@pytest.mark.subprocess
@pytest.mark.parametrize("layout", ["flat", "src"])
def test_an_editable_project_without_direct_url_is_found_by_what_its_pth_file_leads_to(
    layout: str, prefix: Path, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project", "mine", layout)
    by_pip(prefix, "-e", project)
    pth = [path.read_text() for path in site_packages(prefix).glob("__editable__*.pth")]
    assert any(text.startswith("import" if layout == "flat" else "/") for text in pth)
    (site_packages(prefix) / "mine-1.2.dist-info" / "direct_url.json").unlink()
    found = scan_prefix(prefix)
    assert sources(found)["mine"] == Source(
        name="mine", version="1.2", path=str(project), editable=True
    )
    assert complaints(found, str(project / "src")) == []


@pytest.mark.subprocess
def test_a_develop_install_of_old_is_found_by_its_egg_link(prefix: Path, tmp_path: Path) -> None:
    project = tmp_path / "old project"
    info = project / "Old_one.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: Old-one\nVersion: 0.1\n")
    (site_packages(prefix) / "Old-one.egg-link").write_text(f"{project}\n.")
    (site_packages(prefix) / "easy-install.pth").write_text(f"{project}\n")
    found = scan_prefix(prefix)
    assert sources(found) == {
        "old-one": Source(name="old-one", version="0.1", path=str(project), editable=True)
    }
    assert found.problems == ()
    shutil.rmtree(project)
    found = scan_prefix(prefix)
    assert sources(found) == {}
    assert any(str(project) in problem.message for problem in found.problems)


@pytest.mark.subprocess
@both
def test_a_path_install_is_found(by: Callable[..., None], prefix: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", "mine")
    by(prefix, project)
    found = scan_prefix(prefix)
    assert sources(found) == {"mine": Source(name="mine", version="1.2", path=str(project))}
    shutil.rmtree(project)
    found = scan_prefix(prefix)
    assert sources(found) == {}
    assert complaints(found, "mine") == [f"Was installed from `{project}`, which is gone"]


@pytest.mark.subprocess
@both
def test_a_git_install_keeps_its_commit_and_subdirectory(
    by: Callable[..., None], prefix: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    make_project(repository / "python" / "mine", "mine")
    commit = make_repository(repository)
    by(prefix, f"git+file://{repository}#subdirectory=python/mine")
    assert sources(scan_prefix(prefix)) == {
        "mine": Source(
            name="mine",
            version="1.2",
            git=f"file://{repository}",
            commit=commit,
            subdirectory="python/mine",
        )
    }


@pytest.mark.subprocess
@both
def test_a_local_wheel_is_found(by: Callable[..., None], prefix: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "mine", "1.2").path
    by(prefix, wheel)
    assert sources(scan_prefix(prefix)) == {
        "mine": Source(name="mine", version="1.2", path=str(wheel))
    }


def having(version: str = "1.0", conda: str | None = None, **direct: Any) -> Scan:
    """Return a scan of one distribution."""
    item = Distribution(
        name="one", version=version, location="/v", direct_url=direct or None, conda=conda
    )
    return Scan(
        kind="venv", platform="p", glibc=None, interpreter=SCAN.interpreter, distributions=(item,)
    )


HTTPS = "https://example.com/one"
GIT = {"vcs": "git", "commit_id": "a" * 40}


@pytest.mark.parametrize(
    "found",
    [
        having(),
        having("1.0+cu118"),
        having("2.0+gpu"),
        # Nightly builds on indexes have such versions: the lock looks there first.
        having("1.0.dev3+g1a2b3c4"),
        having("0+untagged.1.g1a2b3c4.dirty"),
        having("1.0.dev3+g1a2b3c4.d20260101"),
        having(url=f"{HTTPS}-1.0-py3-none-any.whl", archive_info={"hashes": {"sha256": "a"}}),
        having(url=f"{HTTPS}-1.0.tar.gz", archive_info={"hashes": {"sha256": "a"}}),
        having(url=f"{HTTPS}/archive/main.zip", archive_info={}, subdirectory="x"),
        having(url="https://codeload.github.com/o/r/zip/refs/heads/main", archive_info={}),
        having(url="https://api.github.com/repos/o/r/tarball", archive_info={}),
        having(url="https://gitlab.com/o/r/-/archive/v1/r-v1.tar.bz2", archive_info={}),
        having(url="file:///gone/one", dir_info={}, conda="one"),
    ],
    ids=lambda found: json.dumps(found.to_dict()["distributions"]),
)
def test_what_an_index_a_channel_or_the_web_has_is_neither_source_nor_problem(found: Scan) -> None:
    assert (find_sources(found), find_problems(found)) == ((), ())


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            having(url=HTTPS, vcs_info={"vcs": "hg", "commit_id": "1"}),
            "`hg+https://example.com/one`, and only git",
        ),
        (having(url=HTTPS, vcs_info={"vcs": "git"}), "at an unknown commit"),
        (having("1.0 beta"), "none that an index can have"),
        (having("unknown"), "none that an index can have"),
        (having(url=f"{HTTPS}/page.html"), "neither wheel nor archive"),
        (having(url="https://[::1/one.zip", archive_info={}), "which is no URL"),
        (having(url="file:///gone/one.whl", archive_info={}), "`/gone/one.whl`, which is gone"),
        (having(url="file:///gone/one", vcs_info=GIT), "`/gone/one`, which is gone"),
    ],
)
def test_an_origin_that_does_not_say_enough_is_a_problem(found: Scan, message: str) -> None:
    (problem,) = find_problems(found)
    assert problem.subject == "one"
    assert message in problem.message
    assert find_sources(found) == ()


def test_a_git_install_over_the_network_needs_nothing_on_this_machine() -> None:
    found = having(url="ssh://git@example.com/one.git", vcs_info=GIT, subdirectory="python")
    assert find_sources(found) == (
        Source(
            name="one",
            version="1.0",
            git="ssh://git@example.com/one.git",
            commit="a" * 40,
            subdirectory="python",
        ),
    )
