"""What a command makes comes home, as if it had run here."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from envboot.cli.result_options import place_path
from tests.launch.workspace import ENVBOOT, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
TRAIN = """
import os, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.parent.mkdir(exist_ok=True)
out.write_bytes(bytes(3_000_000) + os.environ.get("ENVBOOT_RANK", "-").encode())
print("wrote", out)
while "--wait" in sys.argv:
    time.sleep(0.05)
raise SystemExit(5 if "--fail" in sys.argv else 0)
"""


@pytest.fixture
def project(warm: Workspace, tmp_path: Path) -> Iterator[Project]:
    """A directory with a script, from which is launched."""
    found = Project(warm, tmp_path / "project")
    yield found
    shutil.rmtree(found.folder)


class Project:
    """A directory beside the workspace, whose environment and bucket it uses."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        folder.mkdir()
        (folder / "train.py").write_text(TRAIN)
        shutil.copy(workspace.folder / "pyproject.toml", folder)

    def run(self, *words: str, code: int = 0, variables: dict[str, str] | None = None) -> str:
        """Run a command here; returns stdout, and behind it stderr."""
        words = ("-C", str(self.folder), ENVBOOT, *words)
        done = self.workspace.run("env", *words, **(variables or {}))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def launch(self, *words: str, code: int = 0) -> str:
        return self.run(
            "launch", "local", "--python", str(self.workspace.python), *words, code=code
        )

    def files(self) -> dict[str, int]:
        """Return the size of each file that was not there from the beginning."""
        found = {
            path.relative_to(self.folder).as_posix(): path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        return {name: size for name, size in found.items() if name not in ("train.py", SETTINGS)}

    @property
    def newest(self) -> str:
        """The launch that was made last."""
        listed = self.run("ls", "--past", "--json")
        name: str = json.loads(listed)[-1]["launch"]
        return name


SETTINGS = "pyproject.toml"


def test_a_file_is_where_the_same_command_would_have_put_it_here(project: Project) -> None:
    said = project.launch("--", "python", "train.py", "--out", "models/model.pkl")
    assert project.files() == {"models/model.pkl": 3_000_001}
    assert "fetched 1 file, 3.0 MB into .\n" in said
    # Once more: it is a file of ours, and may be replaced.
    said = project.launch("--env", "ENVBOOT_RANK=x", "--", "python", "train.py", "--out", "m.pkl")
    assert project.files() == {"models/model.pkl": 3_000_001, "m.pkl": 3_000_001}


def test_results_of_a_command_that_failed_come_home_too(project: Project) -> None:
    said = project.launch("--", "python", "train.py", "--out", "model.pkl", "--fail", code=5)
    assert project.files() == {"model.pkl": 3_000_001}
    assert "fetched 1 file, 3.0 MB into ." in said


def test_each_of_several_instances_has_a_directory_by_its_rank(project: Project) -> None:
    project.launch("--count", "2", "--", "python", "train.py", "--out", "model.pkl")
    top = f"results/{project.newest}"
    assert project.files() == {f"{top}/{rank}/model.pkl": 3_000_001 for rank in (0, 1)}
    for rank in (0, 1):
        data = (project.folder / top / str(rank) / "model.pkl").read_bytes()
        assert data.endswith(str(rank).encode())


def test_what_has_changed_here_since_the_launch_is_not_replaced(project: Project) -> None:
    (project.folder / "model.pkl").write_text("precious")
    said = project.launch("--", "python", "train.py", "--out", "model.pkl")
    beside = f"model.remote-{project.newest}.pkl"
    assert project.files() == {"model.pkl": 8, beside: 3_000_001}
    assert "`model.pkl`: not replaced" in said
    assert f"fetched as `{beside}`" in said


def test_a_sent_file_that_the_command_changes_is_changed_here(project: Project) -> None:
    (project.folder / "train.py").write_text("open('train.py', 'a').write('# seen')")
    project.launch("--", "python", "train.py")
    assert (project.folder / "train.py").read_text().endswith("# seen")


def test_results_may_go_elsewhere_be_ignored_or_stay(project: Project) -> None:
    make = ("--", "python", "-c", "open('a.txt', 'w'); open('b.tmp', 'w')")
    project.launch("--no-output", *make)
    assert project.files() == {}
    project.launch("--output-ignore", "*.tmp", "--into", "there", *make)
    assert project.files() == {"there/a.txt": 0}


def test_settings_say_what_comes_home(project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "data" / "out"
    outside.mkdir(parents=True)
    (outside / "x.txt").write_text("x")
    with (project.folder / SETTINGS).open("a") as stream:
        stream.write(f'[tool.envboot]\noutput = ["{outside}"]\noutput-limit = "2MB"\n')
        stream.write('output-ignore = ["*.tmp"]\n')
    said = project.launch(
        "--", "python", "-c", "open('big', 'wb').truncate(3_000_000); open('b.tmp', 'w')"
    )
    assert project.files() == {"out/x.txt": 1}
    assert "`big`: all files together would be larger than `--output-limit`" in said


def test_an_interrupted_launch_brings_home_what_there_is(project: Project) -> None:
    words = project.workspace.command("--", "python", "train.py", "--out", "m.pkl", "--wait")
    process = project.workspace.start("env", "-C", str(project.folder), *words)
    assert process.stdout
    assert process.stdout.readline() == "wrote m.pkl\n"
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert project.files() == {"m.pkl": 3_000_001}, said
    assert "fetched 1 file, 3.0 MB into ." in said


def parse(text: str) -> Any:
    """Read the document of stdout, behind which warnings stand."""
    return json.JSONDecoder().raw_decode(text)[0]


def test_results_of_a_launch_that_runs_are_listed_and_fetched_from_elsewhere(
    project: Project, tmp_path: Path
) -> None:
    words = project.workspace.command("--", "python", "train.py", "--out", "m.pkl", "--wait")
    process = project.workspace.start("env", "-C", str(project.folder), *words)
    try:
        assert process.stdout
        assert process.stdout.readline() == "wrote m.pkl\n"
        wait_for(lambda: json.loads(project.run("ls", project.newest, "--json")))
        launch = project.newest
        (listed,) = json.loads(project.run("ls", f"{launch}/0", "--json"))
        assert (listed["path"], listed["size"], listed["rank"]) == ("m.pkl", 3_000_001, 0)
        assert "3.0 MB" in project.run("ls", launch)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        bucket = ("--store", f"file://{project.workspace.state}/store")
        variables = {"ENVBOOT_STATE_DIR": str(tmp_path / "state")}
        options = ("--into", str(elsewhere), *bucket, "--json")
        (found,) = parse(project.run("fetch", launch, "m.*", *options, variables=variables))
        assert (found["files"], found["bytes"], found["rank"]) == (1, 3_000_001, 0)
        assert (elsewhere / "m.pkl").stat().st_size == 3_000_001
        (again,) = parse(project.run("fetch", launch, *options, variables=variables))
        assert (again["files"], again["equal"]) == (0, 1)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("fetch", "LAUNCH/one"), ", found `LAUNCH/one`"),
        (("fetch", "LAUNCH/7"), "Rank 7 of `LAUNCH` has no results"),
        (("fetch", "LAUNCH", "none.txt"), "Unknown results: `none.txt`"),
        (("ls", "LAUNCH/3"), "Rank 3 of `LAUNCH` has no results"),
        (("fetch", "20990101-000000-0000"), "Unknown launch `20990101-000000-0000`"),
    ],
)
def test_what_is_not_there_is_refused(project: Project, words: tuple[str, ...], says: str) -> None:
    project.launch("--", "python", "train.py", "--out", "m.pkl")
    launch = project.newest
    said = project.run(*(word.replace("LAUNCH", launch) for word in words), code=118)
    assert says.replace("LAUNCH", launch) in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--output", "x", "--no-output"), "Cannot take `--output` together with `--no-output`"),
        (("--output-limit", "much"), "Expected `--output-limit` such as `500MB` or `none`"),
        (("--output", "/a/x", "--output", "/b/x"), "Cannot bring home several directories as `x`"),
        (("--output-ignore", "!"), "Expected `--output-ignore` with patterns"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    project: Project, words: tuple[str, ...], says: str
) -> None:
    assert says in project.launch(*words, "--", "true", code=118)


def test_json_says_what_came_home(project: Project) -> None:
    said = project.launch("--json", "--", "python", "train.py", "--out", "m.pkl")
    # Behind it is what stderr has.
    document: dict[str, Any] = json.JSONDecoder().raw_decode(said)[0]
    (result,) = document["results"]
    assert (result["files"], result["bytes"], result["rank"]) == (1, 3_000_001, 0)
    assert result["folder"] == str(project.folder)


def test_completion_knows_the_launches_from_here(project: Project) -> None:
    project.launch("--", "true")
    variables = {
        "_ENVBOOT_COMPLETE": "bash_complete",
        "COMP_WORDS": "envboot fetch ",
        "COMP_CWORD": "2",
    }
    assert project.newest in project.run(variables=variables)


@pytest.mark.parametrize(
    ("path", "placed"),
    [
        ("out", "out"),
        ("./out/", "out"),
        ("../out", "../out"),
        ("/data/out", "/data/out"),
        ("HERE/out", "out"),
    ],
)
def test_a_path_means_the_same_on_the_machine(tmp_path: Path, path: str, placed: str) -> None:
    assert place_path(path.replace("HERE", str(tmp_path)), tmp_path) == placed
    if path.startswith("/"):
        assert place_path(path, tmp_path, is_windows=True) == placed
