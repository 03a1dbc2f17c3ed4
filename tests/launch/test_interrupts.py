"""Ctrl-C and its relatives at any moment: nothing runs on, nothing is left, exit code 130."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.launch.workspace import ENVBOOT, Workspace, wait_for, write_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

SLEEP = "import sys, time; print('it runs', flush=True); time.sleep(600)"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def finish(process: subprocess.Popen[str], seconds: float = 8) -> str:
    """Wait for the end, sooner than any grace period; returns stderr."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def has_stage(workspace: Workspace, stage: str) -> Callable[[], bool]:
    """Tell whether some instance shows a stage."""

    def look() -> bool:
        files = workspace.state.glob("local/*/*/root/run/envboot/status.json")
        return any(f'"{stage}' in file.read_text() for file in files)

    return look


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_all_that_it_started(
    warm: Workspace, number: signal.Signals
) -> None:
    # In sessions of their own, without our variables, in the background: all of these are ended.
    mark = f"{warm.state}/local/mark"
    sleep = f"python -c 'import time; time.sleep(600)' {mark}"
    script = f"setsid {sleep} & env -i PATH=$PATH {sleep} & ({sleep} &) ; echo started; wait"
    process = warm.start(*warm.command("--count", "2", "--", "sh", "-c", script))
    wait_for(lambda: sum(mark in line and "time.sleep" in line for line in warm.survivors()) >= 6)
    os.kill(process.pid, number)
    if number == signal.SIGINT:
        # What the command has put into the background still has its output open.
        time.sleep(2)
        assert process.poll() is None
        os.kill(process.pid, number)
    assert "interrupted" in finish(process)
    assert process.returncode == 130
    assert warm.survivors() == warm.leftovers() == []


NICE = """
import signal, sys, time
try:
    print('it runs', flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print('saved', flush=True)
    sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 3])
def test_ctrl_c_reaches_the_command_first_which_ends_as_it_likes(
    warm: Workspace, code: int
) -> None:
    process = warm.start(*warm.command("--", "python", "-c", NICE, str(code)))
    assert process.stdout
    assert process.stdout.readline() == "it runs\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == "saved\n"
    assert "interrupted the command, which has 30 s to end; Ctrl-C again ends the instances" in err
    assert process.returncode == code
    assert warm.survivors() == warm.leftovers() == []
    assert "it is over: interrupted" in warm.run(ENVBOOT, "status").stdout


def test_a_second_ctrl_c_ends_the_instances(warm: Workspace) -> None:
    stubborn = "trap '' INT; echo it runs; while true; do sleep 1; done"
    process = warm.start(*warm.command("--", "sh", "-c", stubborn))
    assert process.stdout
    assert process.stdout.readline() == "it runs\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr
    while "interrupted the command" not in process.stderr.readline():
        pass
    time.sleep(0.5)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert "interrupted" in finish(process)
    assert process.returncode == 130
    assert warm.survivors() == warm.leftovers() == []


def test_ctrl_c_reaches_the_whole_group_and_a_second_one_does_not_disturb(warm: Workspace) -> None:
    process = warm.start(*warm.command("--", "python", "-c", SLEEP))
    wait_for(lambda: any("it runs" in line for line in warm.survivors()))
    for _ in range(5):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert finish(process).count("\ninterrupted\n") == 1
    assert process.returncode == 130
    assert warm.survivors() == warm.leftovers() == []


def test_ctrl_c_during_the_installation(fresh: Workspace, silent: str) -> None:
    # Locked by now, so that it is the instance that waits for this wheel.
    assert fresh.launch("--", "true").returncode == 0
    fresh.run("rm", "-r", str(fresh.state / "store"), str(fresh.folder / "uv"))
    port = fresh.variables["UV_DEFAULT_INDEX"].split("/")[2]
    for file in fresh.folder.glob("cache/locks/*.json"):
        file.write_text(file.read_text().replace(port, silent.removeprefix("http://")))
    process = fresh.start(*fresh.command("--", "true"))
    wait_for(has_stage(fresh, "install: 2 wheels"))
    wait_for(lambda: any("pip install" in line for line in fresh.survivors()))
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode == 130
    assert fresh.survivors() == fresh.leftovers() == []
    assert not list(fresh.state.glob("store/base/*/env.tar.zst"))


def test_ctrl_c_while_a_tool_is_fetched_for_the_bucket(fresh: Workspace, silent: str) -> None:
    write_settings(fresh.folder, uv=(f"{silent}/uv", fresh.index / "uv"))
    process = fresh.start(*fresh.command("--", "true"))
    wait_for(lambda: list(fresh.state.glob("store/base/*/manifest.json")))
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode == 130
    assert fresh.survivors() == fresh.leftovers() == []


@pytest.mark.parametrize("moment", range(10))
def test_ctrl_c_at_any_moment_of_a_launch(warm: Workspace, moment: int) -> None:
    process = warm.start(*warm.command("--count", "3", "--", "true"))
    time.sleep(0.1 + 0.06 * moment)
    process.send_signal(signal.SIGINT)
    said = finish(process)
    # Python's own start, before ours can say what a signal means, takes the first moments.
    is_pythons = process.returncode == 1 and "Fatal Python error: init_import_site" in said
    assert process.returncode in (0, 130, -signal.SIGINT) or is_pythons, said
    assert warm.survivors() == warm.leftovers() == []


def test_ctrl_c_while_instances_are_being_ended_does_not_stop_that(warm: Workspace) -> None:
    # What the command leaves in the background takes a second to end.
    daemon = "trap 'sleep 1; exit' TERM; while :; do sleep 0.05; done"
    script = f"({daemon}) >/dev/null 2>&1 & echo over"
    process = warm.start(*warm.command("--", "sh", "-c", script))
    assert process.stdout
    assert process.stdout.readline() == "over\n"
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "interrupted" in finish(process)
    assert process.returncode == 130
    assert warm.survivors() == warm.leftovers() == []


def test_keep_leaves_the_folder_of_an_interrupted_launch_and_no_process(warm: Workspace) -> None:
    process = warm.start(*warm.command("--keep", "--", "python", "-c", SLEEP))
    # Python that is just starting exits with 1.
    assert process.stdout
    assert process.stdout.readline() == "it runs\n"
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert process.returncode == 130, said
    assert warm.survivors() == []
    assert " failed " in warm.run(ENVBOOT, "ls").stdout


def test_a_reader_that_goes_away_ends_the_launch(warm: Workspace) -> None:
    script = "while echo line; do sleep 0.02; done"
    process = warm.start(
        "sh", "-c", '"$@" | head -1', "sh", *warm.command("--", "sh", "-c", script)
    )
    assert process.communicate(timeout=20)[0] == "line\n"
    assert warm.survivors() == warm.leftovers() == []


def test_terminate_from_another_terminal_ends_a_running_launch(warm: Workspace) -> None:
    process = warm.start(*warm.command("--", "python", "-c", SLEEP))
    wait_for(lambda: any("it runs" in line for line in warm.survivors()))
    assert warm.run(ENVBOOT, "terminate", "--all").returncode == 0
    assert re.search(r"ended before the command did|was ended by SIGTERM", finish(process))
    assert process.returncode in (117, 143)
    assert warm.survivors() == warm.leftovers() == []
