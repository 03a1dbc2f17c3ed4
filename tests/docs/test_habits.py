"""What the repository promises those who work on it: linters, exact tools, releases."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envboot import __version__
from tests.docs.pages import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCK = ROOT / ".ci/requirements-dev.txt"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
MINORS = range(10, 15)
_RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def read_wanted() -> list[Requirement]:
    """Return what the development environment is made of, by pyproject.toml."""
    document = read_project()
    project = document["project"]
    lines = [*project["dependencies"], *document["dependency-groups"]["dev"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    found = map(Requirement, lines)
    # An extra may be made of others: `envboot[aws]`.
    return [requirement for requirement in found if requirement.name != "envboot"]


def read_locked(minor: int) -> dict[str, str]:
    """Return the versions that the lock has for Linux and that Python."""
    version = f"3.{minor}"
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
    }
    locked: dict[str, str] = {}
    for line in LOCK.read_text("utf-8").splitlines():
        if line[:1] in {"#", " ", ""}:
            continue
        requirement = Requirement(line.removesuffix("\\").strip())
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        assert name not in locked, f"{name} is locked twice for Python {version}"
        locked[name] = str(requirement.specifier).removeprefix("==")
    return locked


@pytest.mark.parametrize("minor", MINORS)
def test_the_lock_satisfies_pyproject(minor: int) -> None:
    locked = read_locked(minor)
    missing = [
        str(wanted)
        for wanted in read_wanted()
        if not wanted.marker or wanted.marker.evaluate({"python_version": f"3.{minor}"})
        if not wanted.specifier.contains(locked.get(canonicalize_name(wanted.name), "0"))
    ]
    assert missing == [], "`make relock` writes the lock again"


def test_what_is_installed_is_what_the_lock_says() -> None:
    # Starting from pyproject.toml; pip and whatever else somebody installed here is nobody's.
    locked = read_locked(sys.version_info.minor)
    reached: dict[str, str] = {}
    waiting = read_wanted()
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        for extra in {"", *wanted.extras}:
            name = canonicalize_name(wanted.name)
            if (name, extra) in seen or (
                wanted.marker and not wanted.marker.evaluate({"extra": ""})
            ):
                continue
            seen.add((name, extra))
            reached[name] = metadata.version(name)
            for line in metadata.requires(name) or ():
                needed = Requirement(line)
                if not needed.marker or needed.marker.evaluate({"extra": extra}):
                    needed.marker = None
                    waiting.append(needed)
    different = {
        name: f"{version} is installed, {locked.get(name)} is locked"
        for name, version in reached.items()
        if locked.get(name) != version
    }
    assert different == {}


def test_the_lock_names_no_host_and_no_place() -> None:
    text = LOCK.read_text("utf-8")
    assert re.findall(r"^.*(?:://|--(?!hash=)|(?<!\w)/\w).*$", text, re.MULTILINE) == []


@pytest.mark.subprocess
def test_pre_commit_runs_what_make_lint_runs() -> None:
    # `-o`: whether the environment is up to date changes nothing here.
    command = ["make", "--dry-run", "lint", "-o", ".venv/.installed", "TERRAFORM=terraform"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    linted = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repository,) = configuration["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == linted
    assert not any(hook["pass_filenames"] for hook in repository["hooks"])


@pytest.mark.subprocess
def test_every_shell_script_is_checked() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    names = [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    first_line = re.compile(rb"#!.*\b(?:ba|da)?sh$", re.MULTILINE)
    # Templates and golden files are checked as they are rendered: tests/userdata/test_script.py.
    scripts = [
        name
        for name in names
        if not name.startswith("tests/golden/") and not name.endswith(".j2")
        if first_line.match((ROOT / name).read_bytes()[:100])
    ]
    found = re.search(r"^SCRIPTS := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert found
    assert found[1].split() == scripts


@pytest.mark.subprocess
def test_actionlint_and_its_shellcheck_find_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - run: echo ${{ matrix.python }}\n      - run: cd $A\n"
    )
    command = [BIN / "actionlint", "-oneline", "-shellcheck", BIN / "shellcheck", file]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'property "python" is not defined' in done.stdout
    assert "SC2086" in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        publishes = (path.stem, name) == ("release", "publish")
        assert job.get("permissions") == ({"id-token": "write"} if publishes else None)


def test_a_workflow_runs_every_python_that_is_supported() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    pythons = workflow["jobs"]["unit"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minor}" for minor in MINORS]
    assert read_project()["project"]["requires-python"] == f">={pythons[0]}"
    assert read_project()["tool"]["mypy"]["python_version"] == pythons[0]


def test_make_help_names_every_target_that_is_for_people() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.findall(r"^help:\n((?:\t.*\n)+)", text, re.MULTILINE)[0]
    named = set(re.findall(r"make (\w+)", recipe))
    targets = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)[0].split())
    # The others are steps of these, or rewrite and remove files.
    assert targets - named == {"help", "oldest", "boots", "apt", "ensurepip", "golden", "clean"}
    assert named <= targets


def test_files_and_targets_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    names = re.findall(r"`(?:\.venv/bin/python -m pytest )?([\w.][\w./-]*/[\w./-]*)`", text)
    assert len(names) > 5
    assert [name for name in names if name != ".venv" and not _exists(name)] == []
    assert len(text.splitlines()) < 60


def _exists(name: str) -> bool:
    places = (ROOT, ROOT / "tests", ROOT / "bootstrap/envboot")
    return any((place / name).exists() for place in places)


def test_the_version_stands_in_one_place() -> None:
    project = read_project()
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "envboot.__version__"}
    version = re.compile(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])")
    places = [
        path.relative_to(ROOT).as_posix()
        for folder in ("bootstrap", "docs", "provisioners", "templates", "terraform")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".tf", ".toml", ".j2", ".service"}
        for line in path.read_text("utf-8").splitlines()
        if version.search(line) and re.search("envboot|version", line)
    ]
    assert places == ["bootstrap/envboot/__init__.py"]
    # setuptools reads it without an import only where it is a plain string.
    tree = ast.parse((ROOT / places[0]).read_text("utf-8"))
    assigned = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "__version__" for name in node.targets)
    ]
    assert [value.value for value in assigned if isinstance(value, ast.Constant)] == [__version__]


def test_the_changelog_has_this_version_and_a_date_for_each() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## .+$", text, re.MULTILINE)
    releases = _RELEASE.findall(text)
    assert headings[0] == "## Unreleased"
    assert len(releases) == len(headings) - 1
    assert releases[0][0] == __version__
    assert [date for _, date in releases] == sorted((date for _, date in releases), reverse=True)
    sections = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
