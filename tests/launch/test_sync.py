"""`envboot sync`: an edit reaches machines that run, from a process that did not launch them."""

from __future__ import annotations

import json
import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.launch.workspace import ENVBOOT, Workspace, wait_for, write_value

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

LOOP = """\
import time
import mine, beside

while True:
    print(mine.VALUE, beside.NAME, flush=True)
    time.sleep(0.1)
"""


class Running:
    """A launch that runs in a folder with loose code, and the user who edits it."""

    def __init__(self, workspace: Workspace, process: subprocess.Popen[str], app: Path) -> None:
        self.workspace = workspace
        self.process = process
        self.app = app
        [folder] = workspace.state.glob("local/*")
        self.launch = folder.name
        self.roots = sorted(folder.glob("*/root"))

    def edit(self, value: int, name: str) -> None:
        """Change the editable project and the loose module."""
        write_value(self.workspace.folder, value)
        (self.app / "beside.py").write_text(f"NAME = '{name}'\n")

    def sync(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Sync, in whatever folder, in a process of its own."""
        done = self.workspace.run(ENVBOOT, "sync", *words)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def sync_json(self, *words: str) -> dict[str, Any]:
        """Sync with `--json`."""
        document: dict[str, Any] = json.loads(self.sync("--json", *words).stdout)
        return document

    def printed(self, root: Path) -> str:
        """Return the last line that the command printed on an instance."""
        lines = (root.parent / "output").read_text().splitlines()
        return lines[-1] if lines else ""

    def ask(self, root: Path, program: str) -> str:
        """Run a program in an instance's environment, in a new process."""
        python = root / "opt/envboot/env/bin/python"
        done = self.workspace.run(str(python), "-I", "-c", program)
        return (done.stdout + done.stderr).strip()


@contextmanager
def start(workspace: Workspace, *, count: int = 1) -> Iterator[Running]:
    """Launch the loop and wait until it prints."""
    app = workspace.folder / "app"
    app.mkdir(exist_ok=True)
    for file in app.glob("*.py"):
        file.unlink()
    (app / "beside.py").write_text("NAME = 'one'\n")
    (app / "extra.py").write_text("")
    (app / "loop.py").write_text(LOOP)
    launch = workspace.command("--count", str(count), "--", "python", "loop.py")
    process = workspace.start("env", "-C", str(app), *launch)
    outputs = "local/*/*/output"
    try:
        wait_for(
            lambda: (
                [f.read_text()[:5] for f in workspace.state.glob(outputs)].count("1 one") == count
            )
        )
        yield Running(workspace, process, app)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert workspace.survivors() == workspace.leftovers() == []


SEE = "import mine, beside; print(mine.VALUE, beside.NAME)"


def test_an_edit_reaches_new_processes_and_leaves_the_one_that_runs_alone(warm: Workspace) -> None:
    with start(warm, count=2) as running:
        before = {root: (root / "opt/envboot/env").resolve() for root in running.roots}
        running.edit(2, "two")
        (running.app / "extra.py").unlink()
        (running.app / "later.py").write_text("")
        done = running.sync()
        assert re.search(rf"^launch {running.launch}: 2 instances with environment", done.stdout)
        assert re.search(rf"^{running.launch}-1  \d\.\d\d s$", done.stdout, re.MULTILINE)
        assert "The command goes on with what it has loaded; `--restart`" in done.stderr
        for root in running.roots:
            assert running.ask(root, SEE) == "2 two"
            assert running.ask(root, "import later, extra").endswith("No module named 'extra'")
            assert running.printed(root) == "1 one"
            # What user-data names is kept for the next boot, as it was.
            assert running.ask(root, "import tiny_one") == ""
            site = next(before[root].glob("lib/python3*/site-packages"))
            assert (site / "mine/__init__.py").read_text() == "VALUE = 1\n"

        running.edit(3, "three")
        assert running.sync_json(running.launch)["number"] == 2
        assert [running.ask(root, SEE) for root in running.roots] == ["3 three"] * 2
        # What user-data names, the one before, and the active one.
        assert [len(list((r / "opt/envboot/envs").iterdir())) for r in running.roots] == [3, 3]

        again = running.sync()
        assert "nothing changed; 2 instances" in again.stdout
        assert "hint" not in again.stderr
        objects = sorted((warm.state / f"store/launches/{running.launch}").glob("wanted-*"))
        assert [each.name for each in objects] == ["wanted-1.json", "wanted-2.json"]

        running.edit(1, "one")
        (running.app / "later.py").rename(running.app / "extra.py")
        running.sync()
        # The same as at the beginning: nothing had to be made.
        assert {r: (r / "opt/envboot/env").resolve() for r in running.roots} == before


def test_with_restart_the_command_has_the_new_code(warm: Workspace) -> None:
    with start(warm) as running:
        [root] = running.roots
        running.edit(2, "two")
        assert running.sync_json()["restart"] is False
        time.sleep(0.3)
        assert running.printed(root) == "1 one"
        # The same again, but now it is wanted that the command has it too.
        assert running.sync_json("--restart")["changed"] is True
        wait_for(lambda: running.printed(root) == "2 two")
        running.edit(3, "three")
        running.sync("--restart")
        wait_for(lambda: running.printed(root) == "3 three")
        assert running.sync_json("--restart")["changed"] is False


def test_another_base_is_refused_with_what_has_changed(warm: Workspace) -> None:
    with start(warm) as running:
        running.edit(2, "two")
        done = running.sync("--ignore", "tiny-two", code=118)
        assert "more than its projects and loose code has changed" in done.stderr
        assert "caused by: Packages removed: `tiny-two 1.0`" in done.stderr
        assert "hint: Launch anew" in done.stderr
        assert running.ask(running.roots[0], SEE) == "1 one"
        folder = warm.state / f"store/launches/{running.launch}"
        assert not list(folder.glob("wanted-*"))

        # Elsewhere, where the key of the launch is not.
        key = warm.state / f"launches/{running.launch}.key"
        assert key.stat().st_mode & 0o777 == 0o600
        key.rename(key.with_suffix(".away"))
        done = running.sync(code=118)
        assert f"Cannot sign changes for `{running.launch}`: its key `{key}` is not" in done.stderr
        assert not list(folder.glob("wanted-*"))
        key.with_suffix(".away").rename(key)

        # Somebody else who may write to the bucket was first.
        folder.mkdir(exist_ok=True)
        forged = {"number": 1, "digest": "sha256:" + 64 * "0", "restart": True, "signature": "x"}
        (folder / "wanted-1.json").write_text(json.dumps(forged))
        done = running.sync(code=113)
        named = f"`launches/{running.launch}/wanted-1.json` was not signed with its key"
        assert f"Cannot sync `{running.launch}`: {named}" in done.stderr
        assert running.ask(running.roots[0], SEE) == "1 one"


def test_of_two_at_once_the_later_one_counts_and_both_end_well(warm: Workspace) -> None:
    with start(warm) as running:
        running.edit(2, "two")
        first = warm.start(ENVBOOT, "sync", "--json")
        more = warm.folder / "more"
        more.mkdir(exist_ok=True)
        (more / "third.py").write_text("")
        other = warm.start("env", f"PYTHONPATH={more}", ENVBOOT, "sync", "--json")
        numbers = [json.loads(each.communicate()[0])["number"] for each in (first, other)]
        assert [first.returncode, other.returncode] == [0, 0]
        assert sorted(numbers) == [1, 2]
        folder = warm.state / f"store/launches/{running.launch}"
        newest = json.loads((folder / "wanted-2.json").read_text())["digest"]
        wait_for(lambda: (running.roots[0] / "opt/envboot/env").resolve().name == newest[7:])


def test_a_failure_on_a_machine_is_told_and_the_same_can_be_sent_again(warm: Workspace) -> None:
    with start(warm, count=2) as running:
        running.edit(2, "two")
        # In the way of what one of the two would make.
        envs = running.roots[1] / "opt/envboot/envs"
        envs.rename(envs.with_name("away"))
        done = running.sync(code=116)
        assert "Failed to sync 1 of 2 instances" in done.stderr
        assert f"caused by: `{running.launch}-1`: " in done.stderr
        envs.with_name("away").rename(envs)
        assert running.sync_json()["number"] == 2
        assert [running.ask(root, SEE) for root in running.roots] == ["2 two"] * 2


def test_what_does_not_run_is_not_synced(warm: Workspace) -> None:
    done = warm.run(ENVBOOT, "sync")
    assert done.returncode == 118
    assert "Expected the name of a launch, or exactly one that runs, found none" in done.stderr
    launch = warm.launch_json("--", "true")["launch"]
    done = warm.run(ENVBOOT, "sync", launch)
    assert done.returncode == 116
    assert f"Cannot sync `{launch}`: none of its instances is running" in done.stderr
    assert "caused by: it is over: done, at 20" in done.stderr
