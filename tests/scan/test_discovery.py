"""Which environment is found where none is named, and what is said about another one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from envboot.errors import ScanError
from envboot.indexes.program import find_uv
from envboot.scan.discovery import Choice, Runner, find_python
from tests.conformance.managers import ensure_tool
from tests.scan.environments import make_venv, run

ENVBOOT = Path(sys.executable).with_name("envboot")
POETRY = """
[project]
name = "app"
version = "1"
requires-python = ">=3.10"

[tool.poetry]
package-mode = false
"""


def make_environment(folder: Path) -> Path:
    """Make what an environment is recognised by; returns its interpreter."""
    program = folder / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.touch()
    return program


def make_project(folder: Path, text: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text)
    return folder


def find(
    folder: Path,
    environment: dict[str, str] | None = None,
    *,
    prefix: Path | None = None,
    is_users: bool = False,
    own: bool = False,
) -> Choice:
    prefix = prefix or Path("/opt/other")
    runner = Runner(executable=f"{prefix}/bin/python", prefix=prefix, is_users=is_users)
    home = {"HOME": "/home/nobody", "PATH": "/nowhere"}
    return find_python(None, home | (environment or {}), folder, runner=runner, own=own)


def test_the_project_s_environment_is_found_from_a_directory_below_it(tmp_path: Path) -> None:
    python = make_environment(make_project(tmp_path / "app") / ".venv")
    below = tmp_path / "app" / "notebooks" / "2024"
    below.mkdir(parents=True)
    assert find(below) == Choice(executable=str(python))
    assert find(tmp_path / "app") == Choice(executable=str(python))


def test_nothing_above_the_project_is_looked_into(tmp_path: Path) -> None:
    make_environment(tmp_path / ".venv")
    app = make_project(tmp_path / "app")
    assert find(app).executable == "/opt/other/bin/python"
    (tmp_path / ".git").mkdir()
    assert find(app).executable == f"{tmp_path}/.venv/bin/python"


@pytest.mark.parametrize("below", [".", "work", "work/app"])
def test_a_home_directory_is_a_project_only_for_who_is_in_it(tmp_path: Path, below: str) -> None:
    (tmp_path / ".git").mkdir()
    python = make_environment(tmp_path / ".venv")
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    found = find(folder, {"HOME": str(tmp_path)}).executable
    assert found == (str(python) if below == "." else "/opt/other/bin/python")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_environment_of_another_user_above_is_not_run(tmp_path: Path) -> None:
    python = make_environment(make_project(tmp_path / "shared") / ".venv")
    ours = tmp_path / "shared" / "ours"
    ours.mkdir()
    assert find(ours).executable == str(python)
    os.chown(python.parents[1], 12345, 12345)
    assert find(ours).executable == "/opt/other/bin/python"


def test_uv_s_variable_is_seen_from_the_workspace(tmp_path: Path) -> None:
    make_project(
        tmp_path, '[tool.uv.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/b"]'
    )
    members = [make_project(tmp_path / "packages" / name) for name in "ab"]
    tops = (tmp_path, members[1])
    for member, top in zip(members, tops, strict=True):
        with pytest.raises(ScanError, match=r"`UV_PROJECT_ENVIRONMENT`\) was not found") as caught:
            find(member, {"UV_PROJECT_ENVIRONMENT": "env"})
        assert caught.value.hint == (
            f"Make it with `python3 -m venv .venv` in `{top}`, "
            "or name another with `--python DIRECTORY`"
        )
        python = make_environment(top / "env")
        assert find(member, {"UV_PROJECT_ENVIRONMENT": "env"}).executable == str(python)
    assert find(members[0], {"UV_PROJECT_ENVIRONMENT": f"{tmp_path}/env"}).executable == (
        f"{tmp_path}/env/bin/python"
    )


def test_an_environment_without_an_interpreter_is_named_and_how_to_make_it(tmp_path: Path) -> None:
    make_project(tmp_path / "app")
    (tmp_path / "app" / ".venv").mkdir()
    (tmp_path / "app" / "uv.lock").touch()
    active = make_environment(tmp_path / "active").parents[1]
    with pytest.raises(ScanError) as caught:
        find(tmp_path / "app", {"VIRTUAL_ENV": str(active)})
    place = tmp_path / "app" / ".venv"
    assert (
        caught.value.message == f"Environment `{place}` (the project's `.venv`) has no `bin/python`"
    )
    assert caught.value.hint == (
        f"Make it with `uv sync` in `{tmp_path}/app`, or name another with `--python DIRECTORY`"
    )


def test_where_another_environment_is_active_a_note_names_both(tmp_path: Path) -> None:
    app = make_project(tmp_path / "app")
    make_environment(app / ".venv")
    active, base = tmp_path / "my env", tmp_path / "conda"
    make_environment(active)
    make_environment(base)
    both = {"VIRTUAL_ENV": str(active), "CONDA_PREFIX": str(base)}
    for variable, place, option in (
        ("VIRTUAL_ENV", active, f"--python '{active}'"),
        ("CONDA_PREFIX", base, f"--python {base}"),
    ):
        (note,) = find(app, {variable: str(place)}).notes
        assert note.subject == f"{app}/.venv"
        assert note.message == (
            f"Is used because it is the project's `.venv`; `{variable}` is `{place}`: "
            f"to take that one, add `{option}`"
        )
    (note,) = find(app, both).notes
    assert str(active) in note.message
    assert str(base) not in note.message
    (app / "link").symlink_to(".venv")
    for same in (app / ".venv", app / "link"):
        assert find(app, {**both, "VIRTUAL_ENV": str(same)}).notes == ()
    assert find(app, {"VIRTUAL_ENV": str(tmp_path / "gone")}).notes == ()


def test_pixi_s_environment_is_found_and_the_active_one_of_the_project_counts(
    tmp_path: Path,
) -> None:
    (tmp_path / "pixi.toml").touch()
    envs = tmp_path / ".pixi" / "envs"
    default, test = (make_environment(envs / name) for name in ("default", "test"))
    assert find(tmp_path) == Choice(executable=str(default))
    active = {"CONDA_PREFIX": str(envs / "test")}
    assert find(tmp_path, active) == Choice(executable=str(test))


@pytest.mark.parametrize("receipt", ["uv-receipt.toml", "pipx_metadata.json"])
def test_envboot_s_own_environment_is_never_sent_unless_its_python_is_named(
    tmp_path: Path, receipt: str
) -> None:
    own, work = tmp_path / "tools" / "envboot", tmp_path / "work"
    python = make_environment(own)
    (own / receipt).touch()
    work.mkdir()
    for environment in ({}, {"VIRTUAL_ENV": str(own)}):
        with pytest.raises(ScanError, match=f"No environment was found for `{work}`") as caught:
            find(work, environment, prefix=own)
        assert caught.value.causes == (f"`{own}` was made for envboot alone, and is not sent",)
    other = make_environment(tmp_path / "venv")
    assert find(work, {"VIRTUAL_ENV": f"{tmp_path}/venv"}, prefix=own).executable == str(other)
    assert find(work, prefix=own, is_users=True).executable == str(python)
    assert find(work, prefix=own, own=True).executable == str(python)
    assert find_python(str(own), {}, work).executable == str(python)


def test_what_uvx_runs_from_its_cache_is_not_sent(tmp_path: Path) -> None:
    own = tmp_path / "uv" / "archive-v0" / "xyz"
    make_environment(own)
    with pytest.raises(ScanError, match="No environment was found"):
        find(tmp_path, prefix=own)


@pytest.mark.subprocess
def test_the_environment_that_uv_made_is_found_all_over_its_workspace(tmp_path: Path) -> None:
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    member = tmp_path / "packages" / "member"
    words = ("env", *(f"{name}={value}" for name, value in variables.items()))
    text = '[project]\nname = "{}"\nversion = "1"\nrequires-python = ">=3.10"\n'
    top = text.format("top") + '[tool.uv.workspace]\nmembers = ["packages/*"]\n'
    make_project(tmp_path, top)
    make_project(member / "below", "")
    (member / "below" / "pyproject.toml").unlink()
    make_project(member, text.format("member"))
    sync = (find_uv(), "sync", "-q", "--offline", "--python", sys.executable)
    run(*words, *sync, folder=member)
    for folder in (tmp_path, member, member / "below"):
        found = json.loads(run(*words, ENVBOOT, "scan", "--json", folder=folder))
        assert found["interpreter"]["prefix"] == str(tmp_path / ".venv")
    elsewhere = "UV_PROJECT_ENVIRONMENT=made/here"
    run(*words, elsewhere, *sync, folder=member)
    found = json.loads(run(*words, elsewhere, ENVBOOT, "scan", "--json", folder=member))
    assert found["interpreter"]["prefix"] == str(tmp_path / "made" / "here")


@pytest.mark.subprocess
def test_a_module_s_own_python_is_the_user_s_and_the_project_is_named(tmp_path: Path) -> None:
    make_venv(make_project(tmp_path) / ".venv")
    words = ("env", "-i", f"PATH={os.environ['PATH']}", sys.executable, "-m", "envboot", "scan")
    found = json.loads(run(*words, "--json", folder=tmp_path))
    assert found["interpreter"]["prefix"] == sys.prefix
    assert found["problems"][0]["subject"] == sys.prefix
    assert f"--python {tmp_path}/.venv" in found["problems"][0]["message"]


@pytest.mark.network
def test_the_environment_that_poetry_keeps_elsewhere_is_found(tmp_path: Path) -> None:
    tool, app = ensure_tool("poetry"), make_project(tmp_path / "app", POETRY)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "POETRY_CACHE_DIR": str(tmp_path / "cache"),
        # Poetry would take it for the project's own.
        "VIRTUAL_ENV": str(make_environment(tmp_path / "active").parents[1]),
    }
    before = find(app, environment)
    assert before == Choice(executable=f"{tmp_path}/active/bin/python")
    words = ("env", "-u", "VIRTUAL_ENV", f"POETRY_CACHE_DIR={tmp_path}/cache", tool, "env", "use")
    run(*words, "-q", sys.executable, folder=app)
    (kept,) = (tmp_path / "cache" / "virtualenvs").glob("app-*-py3*")
    (app / "src").mkdir()
    for folder in (app, app / "src"):
        found = find(folder, environment)
        assert found.executable == f"{kept}/bin/python"
        (note,) = found.notes
        assert f"`VIRTUAL_ENV` is `{tmp_path}/active`" in note.message
