"""`envboot lock` on a real environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from envboot.indexes.program import find_uv
from envboot.manifest import parse_manifest
from tests.index import make_sdist, make_wheel, serve_folder, write_simple
from tests.layer.code import write
from tests.layer.projects import write_project
from tests.lock.documents import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables that know one index; `tmp_path/venv` holds a wheel of it and a project."""
    index = tmp_path / "index"
    index.mkdir()
    make_wheel(index, "demo")
    write_simple(index)
    project = write_project(tmp_path / "my project", "mine")
    with serve_folder(index) as url:
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "ENVBOOT_CACHE_DIR": str(tmp_path / "cache"),
            "UV_CACHE_DIR": str(tmp_path / "uv"),
            "UV_DEFAULT_INDEX": f"{url}/simple",
        }
        for command in (
            ["venv", "-q", "--python", sys.executable, f"{tmp_path}/venv"],
            ["pip", "install", "-q", "-p", f"{tmp_path}/venv", "demo", str(project.path)],
        ):
            subprocess.run([find_uv(), *command], env=variables, cwd=tmp_path, check=True)
        yield variables


def run(
    environment: dict[str, str], *arguments: str, command: str = "lock", folder: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `envboot lock`, or another command, in the tests' folder or one below it."""
    home = environment["HOME"]
    return subprocess.run(
        [str(Path(sys.executable).with_name("envboot")), command, "--python", "venv", *arguments],
        env=environment,
        cwd=Path(home, folder),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_manifest_is_on_stdout_and_the_summary_beside_it(
    environment: dict[str, str],
) -> None:
    done = run(environment, "--host-python")
    assert done.returncode == 0, done.stderr
    manifest = parse_manifest(done.stdout)
    assert [wheel.name for wheel in manifest.base.wheels] == ["demo"]
    assert manifest.base.python.version == VERSION
    assert manifest.layer
    assert [project.name for project in manifest.layer.projects] == ["mine"]
    assert f"environment  {manifest.environment_digest}" in done.stderr
    assert f"base         {manifest.base_digest}" in done.stderr
    assert "packages     0 conda packages, 1 wheel\n" in done.stderr
    assert "mine 1.0, built" in done.stderr


def test_the_second_lock_is_the_same_and_an_edit_changes_only_the_layer(
    environment: dict[str, str],
) -> None:
    home = Path(environment["HOME"])
    assert run(environment, "--host-python", "-o", "one.json").stdout == ""
    again = run(environment, "--host-python", "-o", "two.json")
    assert "mine 1.0, cached" in again.stderr
    assert (home / "one.json").read_bytes() == (home / "two.json").read_bytes()
    (home / "my project" / "mine" / "__init__.py").write_text("EDITED = 1\n")
    assert run(environment, "--host-python", "-o", "three.json").returncode == 0
    one, three = (json.loads((home / f"{name}.json").read_text()) for name in ("one", "three"))
    assert wire.base_digest(one) == wire.base_digest(three)
    assert wire.environment_digest(one) != wire.environment_digest(three)


def test_the_hosts_interpreter_on_another_platform_is_refused(environment: dict[str, str]) -> None:
    other = {"x86_64": "linux-aarch64", "aarch64": "linux-64"}[machine()]
    for command in ("lock", "plan"):
        done = run(environment, "--host-python", "--platform", other, command=command)
        assert done.returncode == 118
        assert f" on `{other}`\n" in done.stderr
        assert "hint: Leave out `--host-python` or `--platform`" in done.stderr


def test_a_wrong_setting_is_a_usage_error(environment: dict[str, str]) -> None:
    (Path(environment["HOME"]) / "pyproject.toml").write_text("[tool.envboot]\nglib = 1\n")
    done = run(environment)
    assert done.returncode == 118
    assert "error: Unknown key `tool.envboot.glib`" in done.stderr


def test_a_plan_counts_what_stays_and_packs_nothing(environment: dict[str, str]) -> None:
    done = run(environment, "--host-python", command="plan")
    summary, sizes = done.stdout.splitlines()
    assert (done.returncode, summary) == (0, "2 same")
    assert re.fullmatch(
        r"[\d.]+ kB on disk, about [\d.]+ kB packed; largest: (mine|demo) .* kB, .* kB", sizes
    )
    shown = run(environment, "--host-python", "--all", command="plan").stdout.splitlines()
    assert [line.split() for line in shown] == [
        ["NAME", "FROM", "HERE", "THERE", "STATUS", "WHY"],
        ["demo", "pypi", "1.0", "1.0", "same"],
        ["mine", "layer", "1.0", "1.0", "same"],
        [],
        ["2", "same"],
        sizes.split(),
    ]
    assert not (Path(environment["ENVBOOT_CACHE_DIR"]) / "layers").exists()


def test_what_is_built_otherwise_than_installed_is_replaced_and_refused_if_strict(
    environment: dict[str, str],
) -> None:
    home = Path(environment["HOME"])
    assert run(environment, "--host-python", "--strict").returncode == 0
    (home / "my project" / "mine" / "__init__.py").write_text("EDITED = 1\n")
    done = run(environment, "--host-python", command="plan")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("mine "))
    assert row.split()[1:5] == ["layer", "1.0", "1.0", "replaced"]
    assert "`mine/__init__.py` differs from what is installed" in row
    assert "warning: `mine`: Differs from what is installed" in done.stderr
    refused = run(environment, "--host-python", "--strict")
    assert (refused.returncode, refused.stdout) == (111, "")
    assert "error: Cannot bring 1 package exactly as installed: `mine`" in refused.stderr
    assert "caused by: `mine`: 1.0 here, 1.0 there (`mine/__init__.py` differs" in refused.stderr
    (home / "pyproject.toml").write_text("[tool.envboot]\nstrict = true\n")
    planned = run(environment, "--host-python", command="plan")
    # The table first: it says what to do about it.
    assert planned.returncode == 111
    assert "replaced" in planned.stdout


def test_a_plan_has_a_row_for_each_folder_of_loose_code(environment: dict[str, str]) -> None:
    home = Path(environment["HOME"])
    write(home / "work", {"app/__init__.py": "X = 1\n", "app/data.csv": "1\n" * 600, "left.py": ""})
    settings = '[tool.envboot]\nexclude = ["left.py"]\ninclude = ["data/*.txt"]\n'
    write(home / "work", {"pyproject.toml": settings, "data/a.txt": "1\n" * 200, "app/.env": "A"})
    words = ("--host-python", "--python", "../venv")
    done = run(environment, *words, "--json", command="plan", folder="work")
    document = json.loads(done.stdout)
    rows = {row["name"]: row for row in document["packages"]}
    notes = [note["message"] for note in document["notes"] if "Not sent" in note["message"]]
    assert [note.rpartition(": ")[2] for note in notes] == ["`app/.env`"]
    assert notes[0] in done.stderr
    size = "3 files, 1.6 kB"
    assert rows.pop(str(home / "work")) == {
        "name": str(home / "work"),
        "source": "layer",
        "here": size,
        "there": size,
        "status": "same",
    }
    assert sorted(rows) == ["demo", "mine"]
    assert "`exclude` leaves out `left.py`" in done.stderr
    assert not (Path(environment["ENVBOOT_CACHE_DIR"]) / "layers").exists()
    without = run(environment, *words, "--no-loose", command="plan", folder="work")
    assert without.stdout.splitlines()[0] == "2 same"


def test_a_plan_does_not_miss_what_the_wheel_of_a_project_brings(
    environment: dict[str, str],
) -> None:
    project = Path(environment["HOME"], "my project")
    write(project, {"tool.py": "", "src/inner.txt": "", "data/a.txt": ""})
    words = ("--host-python", "--python", "../venv", "--all")
    done = run(environment, *words, command="plan", folder=project.name)
    assert f"{project}  layer" in done.stdout
    assert "Not sent (not Python code): `data" in done.stderr
    assert "`src" not in done.stderr


def test_a_plan_refuses_loose_code_that_a_launch_refuses(environment: dict[str, str]) -> None:
    app = write(Path(environment["HOME"], "work"), {"app/__init__.py": ""}) / "app"
    with (app / "weights.bin").open("wb") as stream:
        stream.truncate(150_000_000)
    words = ("--host-python", "--python", "../venv")
    done = run(environment, *words, command="plan", folder="work")
    assert (done.returncode, done.stdout) == (112, "")
    assert "at most 100 MB of code that belongs to no package, found 150.0 MB" in done.stderr
    assert "app/weights.bin` has 150.0 MB" in done.stderr


def test_a_plan_in_json_has_a_row_for_every_package(environment: dict[str, str]) -> None:
    done = run(environment, "--host-python", "--ignore", "demo", "--json", command="plan")
    rows = {row["name"]: row for row in json.loads(done.stdout)["packages"]}
    assert rows["demo"] == {
        "name": "demo",
        "source": "pypi",
        "here": "1.0",
        "status": "dropped",
        "reason": "ignored",
    }
    assert rows["mine"]["status"] == "same"


def test_what_has_only_an_sdist_is_built_and_travels_in_the_layer(
    environment: dict[str, str],
) -> None:
    home = Path(environment["HOME"])
    made = make_sdist(home / "index", "old-style")
    page = home / "index" / "simple" / "old-style"
    page.mkdir()
    (page / "index.html").write_text(
        f'<a href="../../{made.path.name}#sha256={made.sha256}">{made.path.name}</a>'
    )
    install = [find_uv(), "pip", "install", "-q", "-p", "venv", "old-style"]
    subprocess.run(install, env=environment, cwd=home, check=True)
    done = run(environment, "--host-python")
    assert done.returncode == 0, done.stderr
    layer = parse_manifest(done.stdout).layer
    assert layer
    assert [project.name for project in layer.projects] == ["mine", "old-style"]
    assert "built here from its sdist" in done.stderr
