from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from envboot.process import find_program, run, start

pytestmark = pytest.mark.subprocess


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_code_and_input_come_back() -> None:
    code = "import sys; print(sys.stdin.read().upper(), end='', flush=True); sys.exit('no')"
    done = run(python(code), environment=os.environ, input=b"abc")
    assert (done.code, done.stdout, done.text, done.errors) == (1, b"ABC", "ABC", "no\n")


def test_without_input_it_reads_nothing() -> None:
    done = run(python("import sys; print(repr(sys.stdin.read()))"), environment=os.environ)
    assert done.text == "''\n"


def test_only_the_stated_environment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVBOOT_UNSTATED", "1")
    show = "import json, os; print(json.dumps(sorted(os.environ)))"
    done = run(python(show), environment={"A": "1"}, variables={"PYTHONUTF8": "1"})
    assert "ENVBOOT_UNSTATED" not in done.text
    assert '"A"' in done.text
    assert '"PYTHONUTF8"' in done.text


def test_secrets_do_not_reach_an_error_text() -> None:
    code = "import sys; sys.stderr.write('at https://me:hunter2@host/x with s3cr3t\\n')"
    done = run(python(code), environment={"API_TOKEN": "s3cr3t"})
    assert done.last_errors() == ("at https://host/x with ***",)


def test_a_silent_failure_gives_its_code() -> None:
    done = run(python("raise SystemExit(7)"), environment={})
    assert done.last_errors() == ("Exit code 7",)


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, file=open(sys.argv[1], "w"), flush=True)
time.sleep(60)
"""


def read_child(file: Path) -> int:
    end = time.monotonic() + 30
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(file.read_text())


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        assert time.monotonic() < end, "the child outlived its group"
        time.sleep(0.01)


def test_what_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="still running after"):
        run([*python(PARENT), str(tmp_path / "pid")], environment=os.environ, timeout=3)
    wait_until_gone(read_child(tmp_path / "pid"))


def test_an_interrupt_ends_it_with_its_children(tmp_path: Path) -> None:
    def interrupt() -> None:
        read_child(tmp_path / "pid")
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        run([*python(PARENT), str(tmp_path / "pid")], environment=os.environ)
    waiting.join()
    wait_until_gone(read_child(tmp_path / "pid"))


def test_a_wait_in_another_thread_is_stopped_with_its_children(tmp_path: Path) -> None:
    stop = threading.Event()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            start([*python(PARENT), str(tmp_path / "pid")], environment=os.environ).finish(
                stop=stop
            )
        except InterruptedError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    child = read_child(tmp_path / "pid")
    stop.set()
    waiting.join(20)
    assert ended
    wait_until_gone(child)


def test_a_wait_that_may_be_stopped_gives_all_that_was_written() -> None:
    code = "import time; print('x' * 1_000_000); time.sleep(0.3); print('end')"
    done = start(python(code), environment=os.environ).finish(stop=threading.Event())
    assert done.text == "x" * 1_000_000 + "\nend\n"


def test_a_program_is_found_where_the_environment_and_the_folder_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("bin", "more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").touch(0o755)
    more = tmp_path / "more"
    assert find_program("tool", {"PATH": "bin"}, tmp_path, more) == str(tmp_path / "bin" / "tool")
    assert find_program("tool", {"PATH": "none"}, tmp_path, more) == str(more / "tool")
    assert find_program("ls", {"PATH": "bin"}, tmp_path) is None


def test_a_program_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        start(["envboot-no-such-program"], environment={})
