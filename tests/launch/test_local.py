"""The provisioner `local` by itself: any script is user-data to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from envboot.errors import ProvisionError, UsageError
from envboot.folders import state_folder
from envboot_provisioners import (
    Instance,
    StartRequest,
    load_provisioner,
    provisioner_names,
)
from envboot_provisioners import local as local_module
from envboot_provisioners.local import LocalProvisioner
from tests.launch.workspace import wait_for
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.subprocess


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENVBOOT_STATE_DIR", str(tmp_path / "state"))
    return state_folder(os.environ)


@pytest.fixture
def local() -> Iterator[LocalProvisioner]:
    made = LocalProvisioner(make_session())
    yield made
    made.terminate(made.instances())


def request(script: str, *, launch: str = "20260101-000000-abcd", count: int = 1) -> StartRequest:
    return StartRequest(launch=launch, count=count, user_data=script.encode(), fixed_prefix=False)


def read_pids(instance: Instance, *names: str) -> list[int]:
    """Wait for files with the pids that a script wrote in its root."""
    assert instance.root
    files = [instance.root / name for name in names]
    wait_for(lambda: all(file.exists() and file.read_text().strip() for file in files))
    return [int(file.read_text()) for file in files]


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return bool(stream.read())
    except OSError:
        return False


def test_the_entry_points_name_local_and_qemu() -> None:
    assert {"local", "qemu"} <= set(provisioner_names())
    assert load_provisioner("local", make_session()).name == "local"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="Unknown provisioner `nowhere`") as caught:
        load_provisioner("nowhere", make_session())
    assert "`local`, `qemu`" in (caught.value.hint or "")


def test_an_instance_is_started_shown_listed_and_ended(local: LocalProvisioner) -> None:
    started = local.start(request("echo out; echo log >&2; echo $$ >pid; exec sleep 600", count=2))
    assert [instance.name for instance in started] == [
        "20260101-000000-abcd-0",
        "20260101-000000-abcd-1",
    ]
    pids = [read_pids(instance, "pid")[0] for instance in started]
    assert [instance.pid for instance in started] == pids
    assert all(map(local.is_running, started))
    assert local.console(started[0]) == "log\n"
    assert local.instances() == started
    local.terminate(started[:1])
    assert local.instances() == started[1:]
    assert [is_alive(pid) for pid in pids] == [False, True]
    local.terminate(started)
    assert local.instances() == []
    assert not any(state_folder(os.environ).joinpath("local").iterdir())


def test_another_process_lists_and_ends_what_this_one_started(local: LocalProvisioner) -> None:
    started = local.start(request("echo $$ >pid; exec sleep 600"))
    [pid] = read_pids(started[0], "pid")
    other = LocalProvisioner(make_session())
    assert other.instances() == started
    assert other.is_running(started[0])
    other.terminate(other.instances())
    assert not is_alive(pid)
    assert not local.is_running(started[0])


def test_user_data_can_be_read_by_its_owner_only(local: LocalProvisioner) -> None:
    [instance] = local.start(request("sleep 600"))
    assert instance.folder
    assert (instance.folder / "user-data").stat().st_mode & 0o777 == 0o600


def test_an_instance_that_ended_is_listed_and_does_not_run(local: LocalProvisioner) -> None:
    [instance] = local.start(request("exit 3"))
    wait_for(lambda: not local.is_running(instance))
    assert local.instances() == [instance]
    assert not LocalProvisioner(make_session()).is_running(instance)


def test_keep_ends_the_processes_and_leaves_the_folder(local: LocalProvisioner) -> None:
    [instance] = local.start(request("echo kept >file; echo $$ >pid; exec sleep 600"))
    [pid] = read_pids(instance, "pid")
    local.terminate([instance], keep=True)
    assert not is_alive(pid)
    assert instance.root
    assert (instance.root / "file").read_text() == "kept\n"
    assert local.instances() == [instance]


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(
    local: LocalProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "GRACE", 0.5)
    script = "trap '' TERM; sh -c 'echo $$ >child; while :; do sleep 1; done' & echo $$ >pid; wait"
    [instance] = local.start(request(script))
    pids = read_pids(instance, "pid", "child")
    start = time.monotonic()
    local.terminate([instance])
    assert 0.5 <= time.monotonic() - start < 2
    assert not any(map(is_alive, pids))


def test_a_process_that_ends_in_peace_is_not_killed(local: LocalProvisioner, state: Path) -> None:
    script = "trap 'sleep 0.3 && echo saved >\"$0\"; exit' TERM; echo $$ >pid; sleep 600 & wait"
    [instance] = local.start(request(script.replace('"$0"', f"{state}/saved")))
    read_pids(instance, "pid")
    local.terminate([instance])
    assert (state / "saved").read_text() == "saved\n"


# As the agent starts the command.
GROUP = "python3 -c 'import os, sys; os.setpgrp(); os.execvp(sys.argv[1], sys.argv[1:])'"


@pytest.mark.parametrize("wrapper", ["setsid", "env -i", "nohup", GROUP, f"{GROUP} env -i"])
def test_what_an_instance_started_ends_with_it(local: LocalProvisioner, wrapper: str) -> None:
    inner = "sh -c 'echo $$ >child.new; mv child.new child; exec sleep 600'"
    [instance] = local.start(request(f"({wrapper} {inner} &); echo $$ >pid; sleep 600"))
    pids = read_pids(instance, "pid", "child")
    local.terminate([instance])
    assert not any(map(is_alive, pids))


def test_no_agent_sees_its_command_ended(
    local: LocalProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"{GROUP} sh -c 'echo $$ >child.new; mv child.new child; exec sleep 600' & wait"
    started = local.start(request(script, count=6))
    commands = {pid for instance in started for pid in read_pids(instance, "child")}
    groups: list[int] = []
    kill = os.killpg

    def note(group: int, number: int) -> None:
        groups.append(group)
        kill(group, number)

    monkeypatch.setattr(os, "killpg", note)
    local.terminate(started)
    assert set(groups[:6]) == {instance.pid for instance in started}
    assert set(groups[6:12]) == commands


def test_what_was_started_before_and_is_seen_after_the_signal_gets_it_too(
    local: LocalProvisioner,
) -> None:
    # Asked to end, it waits for the other one, which by then is a zombie.
    trap = "touch asked; until grep -q ') Z' /proc/$(cat late)/stat; do sleep 0.05; done; exit"
    script = f'trap "{trap}" TERM; echo $$ >pid; while :; do sleep 0.05; done'
    [instance] = local.start(request(script.replace("$(cat", "\\$(cat")))
    read_pids(instance, "pid")
    assert instance.root
    # Nothing shows that it is of the instance until its environment does: so far a process can
    # leave its session and its group while others are looked at.
    hidden = "until [ -e asked ]; do sleep 0.05; done; exec env ENVBOOT_ROOT=$0 sleep 600"
    late = subprocess.Popen(
        ["sh", "-c", hidden, instance.root], cwd=instance.root, start_new_session=True
    )
    (instance.root / "late").write_text(str(late.pid))
    local.terminate([instance])
    assert late.wait(1) == -signal.SIGTERM


def test_a_process_in_the_middle_of_exec_is_seen(local: LocalProvisioner) -> None:
    # It does hardly anything else.
    again = """'exec sh -c "$0" "$0"'"""
    [instance] = local.start(request(f"echo $$ >pid; exec sh -c {again} {again}"))
    read_pids(instance, "pid")
    # Another process has nothing but the environment to know it by.
    other = LocalProvisioner(make_session())
    assert all(other.is_running(instance) for _ in range(1000))


def test_a_daemon_that_outlives_its_instance_ends_with_it(local: LocalProvisioner) -> None:
    [instance] = local.start(request("(sleep 600 & echo $! >child)"))
    [pid] = read_pids(instance, "child")
    wait_for(lambda: not local.is_running(instance))
    LocalProvisioner(make_session()).terminate([instance])
    assert not is_alive(pid)


def test_so_does_one_whose_environment_cannot_be_read_any_more(local: LocalProvisioner) -> None:
    # As that of a program which has given itself a title, like Ray's.
    [instance] = local.start(request("(env -i sleep 600 & echo $! >child)"))
    [pid] = read_pids(instance, "child")
    wait_for(lambda: not local.is_running(instance))
    local.terminate([instance])
    assert not is_alive(pid)


def test_a_stale_pid_of_another_program_is_never_signalled(
    local: LocalProvisioner, state: Path
) -> None:
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    folder = state / "local" / "20260101-000000-abcd" / "20260101-000000-abcd-0"
    (folder / "root").mkdir(parents=True)
    (folder / "pid").write_text(str(other.pid))
    try:
        [instance] = local.instances()
        assert instance.pid == other.pid
        assert not local.is_running(instance)
        local.terminate([instance])
        assert other.poll() is None
        assert not folder.exists()
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", ["", "0", "none"])
def test_a_pid_file_without_a_pid_disturbs_nobody(
    local: LocalProvisioner, state: Path, content: str
) -> None:
    folder = state / "local" / "20260101-000000-abcd" / "20260101-000000-abcd-0"
    (folder / "root").mkdir(parents=True)
    (folder / "pid").write_text(content)
    [instance] = local.instances()
    assert instance.pid is None
    assert not local.is_running(instance)
    local.terminate([instance])
    assert local.instances() == []


def test_a_folder_that_was_removed_is_said_to_be(local: LocalProvisioner) -> None:
    [instance] = local.start(request("exit"))
    LocalProvisioner(make_session()).terminate([instance])
    assert "has been removed" in local.console(instance)
    local.terminate([instance])


def test_nothing_stays_when_a_later_instance_cannot_start(
    local: LocalProvisioner, state: Path
) -> None:
    blocker = state / "local" / "20260101-000000-abcd" / "20260101-000000-abcd-2"
    blocker.mkdir(parents=True)
    (blocker / "root").write_text("")
    with pytest.raises(ProvisionError, match="Failed to start `20260101-000000-abcd-2`"):
        local.start(request("exec sleep 61234", count=3))
    assert local.instances() == []
    assert not list((state / "local").glob("*/*-[01]"))
    assert "61234" not in subprocess.run(["ps", "ax"], capture_output=True, text=True).stdout


def test_a_state_folder_that_cannot_be_is_an_error_with_a_hint(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProvisionError) as caught:
        LocalProvisioner(make_session(state=tmp_path / "file")).start(request("exit"))
    assert "ENVBOOT_STATE_DIR" in (caught.value.hint or "")


def test_a_full_disk_is_said_on_the_console_that_could_not_be_written(
    local: LocalProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    [instance] = local.start(request("exec sleep 600"))
    assert local.console(instance) == ""
    monkeypatch.setattr(local_module, "FULL", 1 << 62)
    assert "No space is left" in local.console(instance)


def test_the_script_finds_the_agents_python_and_nothing_of_the_callers_path(
    local: LocalProvisioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "only-here").write_text("#!/bin/sh\n")
    (own / "only-here").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    script = (
        "command -v only-here; echo ${VIRTUAL_ENV-none}; python3 -c 'import sys;print(sys.version)'"
    )
    [instance] = local.start(request(script))
    wait_for(lambda: not local.is_running(instance))
    assert instance.folder
    assert (instance.folder / "output").read_text() == f"none\n{sys.version}\n"
