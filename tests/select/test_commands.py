"""Whole commands that choose what goes: what users give, and what they read."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import ShellComplete

from envboot.cli import cli, run
from envboot.indexes.program import find_uv
from tests.index import make_wheel, write_simple
from tests.launch.test_transcripts import transcript
from tests.launch.workspace import ENVBOOT, Workspace, open_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Golden = Callable[[str, str | bytes], None]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with one more package, which needs what is not there."""
    with open_workspace(tmp_path_factory.mktemp("select") / "work") as made:
        make_wheel(made.index, "needy", requires=("tiny-one", "tiny-two>=3", "absent<2"))
        make_wheel(made.index, "wants", requires=("tiny-one", "comes-along"))
        make_wheel(made.index, "comes-along")
        make_wheel(made.index, "demands", requires=("tiny-two>=9",))
        write_simple(made.index)
        done = made.run(find_uv(), "pip", "install", "-q", "-p", "venv", "--no-deps", "needy")
        assert done.returncode == 0, done.stderr
        yield made


def lock(workspace: Workspace, *words: str) -> tuple[set[str], str]:
    """Return the names of the wheels of a lock, and its stderr."""
    done = workspace.run(ENVBOOT, "lock", "--host-python", "--python", "venv", *words)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    projects = document.get("layer", {}).get("projects", ())
    items = (*document["base"]["wheels"], *projects)
    return {item["name"] for item in items}, done.stderr


@pytest.mark.subprocess
@pytest.mark.sockets
class TestEnvironment:
    """What needs a real one."""

    def test_ignore_and_only_decide_what_is_locked(self, workspace: Workspace) -> None:
        assert lock(workspace)[0] == {"mine", "needy", "tiny-one", "tiny-two"}
        assert lock(workspace, "--ignore", "Tiny_One")[0] == {"mine", "needy", "tiny-two"}
        assert lock(workspace, "--only", "needy")[0] == {"needy", "tiny-one", "tiny-two"}
        assert lock(workspace, "--only", "mine", "--only", "tiny-one")[0] == {"mine", "tiny-one"}

    def test_what_is_added_brings_what_it_needs_but_for_what_is_ignored(
        self, workspace: Workspace
    ) -> None:
        everything = {"mine", "needy", "tiny-one", "tiny-two", "wants", "comes-along"}
        assert lock(workspace, "--add", "wants")[0] == everything
        words = ("--add", "demands", "--ignore", "tiny-two", "--ignore", "tiny-one")
        assert lock(workspace, *words)[0] == {"mine", "needy", "demands"}

    def test_conflicts_are_told(self, workspace: Workspace) -> None:
        _, shown = lock(workspace, "--ignore", "tiny-one")
        assert "warning: `needy`: Needs `absent<2`, which is not installed\n" in shown
        assert "warning: `needy`: Needs `tiny-two>=3`, found 1.0\n" in shown
        assert "warning: `needy`: Needs `tiny-one`, which stays here (ignored)\n" in shown

    def test_conflicts_are_told_before_anything_is_launched(self, workspace: Workspace) -> None:
        done = workspace.launch("--", "true")
        assert done.returncode == 0, done.stderr
        assert done.stderr.index("warning: `needy`") < done.stderr.index("-0: ")

    def test_refusals(self, workspace: Workspace, golden: Golden) -> None:
        cases = [
            ("launch", "local", "--python", "venv", "--ignore", "tinyone", "--", "true"),
            ("launch", "local", "--python", "venv", "--ignore", "mine", "--", "dask", "worker"),
            ("render-userdata", "--python", "venv", "--", "dask-scheduler"),
        ]
        shown = [transcript(workspace.run(ENVBOOT, *case), workspace) for case in cases]
        golden("select-refusals.txt", "\n".join(shown))
        assert workspace.leftovers() == []

    def test_names_complete_from_the_environment(self) -> None:
        # The running interpreter's environment has pytest, whatever else it has.
        complete = ShellComplete(cli, {}, "envboot", "_ENVBOOT_COMPLETE")
        words = ["lock", "--python", sys.executable, "--only"]
        names = [item.value for item in complete.get_completions(words, "pytes")]
        assert "pytest" in names
        assert all(name.startswith("pytes") for name in names)
        assert complete.get_completions(["lock", "--python", "/none", "--ignore"], "") == []


def test_cuda_completes_to_versions_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    complete = ShellComplete(cli, {}, "envboot", "_ENVBOOT_COMPLETE")
    versions = [item.value for item in complete.get_completions(["lock", "--cuda"], "12.")]
    assert "12.4" in versions
    for version in versions:
        # Only the other option is refused.
        run(cli, ["lock", "--cuda", version, "--add", "./x"], "envboot")
        assert "Expected requirements" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("lock --cuda twelve", "Expected `--cuda MAJOR.MINOR`, such as `12.4`, found `twelve`"),
        ("lock --cuda 12", "found `12`"),
        ("lock --from a.lock --only b --add c", "`--from` together with `--only`, `--add`"),
        ("render-userdata --from a.lock --ignore b", "`--from` together with `--ignore`"),
        ("launch local --from a.lock --add b -- true", "`--from` together with `--add`"),
        ("lock --add ./here --add fine --add 'b", "found `./here`, `'b`"),
        (
            "lock --add b@git+https://a:b@c.test/d --add e@file:///f",
            "`b@git+https://c.test/d`, `e@",
        ),
        ("lock --platform osx-64", "Invalid value for `--platform`: `osx-64` is not one of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_scanned(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, words.split(), "envboot") == 118
    assert message in capsys.readouterr().err


@pytest.mark.sockets
def test_a_platform_that_a_provisioner_cannot_be_is_refused_before_anything_is_scanned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from envboot_provisioners.local import PLATFORM

    (other,) = {"linux-64", "linux-aarch64"} - {PLATFORM}
    words = ["launch", "local", "--platform", other, "--python", "/none", "--", "true"]
    assert run(cli, words, "envboot") == 118
    assert (
        f"Cannot make machines of `{other}`: those that were asked for are"
        in capsys.readouterr().err
    )
