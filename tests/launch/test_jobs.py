"""A launch behaves as the command would here, and somebody else can come back to it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from envboot.cli import standard_input
from envboot.cli.standard_input import find_input
from envboot.errors import UsageError
from tests.launch.workspace import ENVBOOT, Workspace
from tests.servers import S3Server, s3_bucket, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["s3_bucket", "s3_server"]
pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def run(workspace: Workspace, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    return subprocess.run(
        words,
        env=workspace.variables,
        cwd=workspace.folder,
        capture_output=True,
        timeout=120,
        check=False,
        **options,
    )


def launch(workspace: Workspace, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return run(workspace, *workspace.command(*words), **options)


def find_newest(workspace: Workspace) -> str:
    records = (workspace.state / "launches").glob("*.json")
    return max(records, key=lambda path: path.stat().st_mtime_ns).stem


def test_megabytes_and_both_streams_arrive_and_stay_to_be_read(warm: Workspace) -> None:
    program = (
        "import random, sys\n"
        "for i in range(7): sys.stdout.buffer.write(random.Random(i).randbytes(1 << 20))\n"
        "sys.stderr.write('at the end\\n'); sys.exit(3)"
    )
    done = launch(warm, "-q", "--", "python", "-c", program)
    wanted = b"".join(random.Random(i).randbytes(1 << 20) for i in range(7))
    assert done.returncode == 3
    assert done.stdout == wanted
    assert done.stderr.startswith(b"at the end\n")
    # The instance and its directory are gone by now.
    assert warm.leftovers() == []
    told = run(warm, ENVBOOT, "logs")
    assert (told.stdout, told.stderr) == (wanted, b"at the end\n")
    assert run(warm, ENVBOOT, "logs", "--stderr", "--grep", "at").stderr == b"at the end\n"
    assert run(warm, ENVBOOT, "logs", "--stderr").stdout == b""
    lines = run(
        warm, ENVBOOT, "logs", find_newest(warm), "0", "--stderr", "--json"
    ).stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["at the end"]
    assert run(warm, ENVBOOT, "logs", "--rank", "1").returncode == 118
    over = run(warm, ENVBOOT, "logs", "--console")
    assert (over.returncode, over.stdout) == (0, b"")


def test_quiet_prints_what_the_command_would_here(warm: Workspace) -> None:
    done = launch(warm, "-q", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


def test_a_signal_is_the_exit_code_of_a_shell(warm: Workspace) -> None:
    assert launch(warm, "--", "sh", "-c", "kill -TERM $$").returncode == 143


def test_what_envboot_cannot_do_is_no_exit_code_of_a_command(warm: Workspace) -> None:
    assert launch(warm, "--timeout", "0.5", "--", "sleep", "60").returncode == 124
    assert launch(warm, "--store", f"file://{warm.folder}/venv/pyvenv.cfg").returncode == 113
    assert launch(warm, "--nonsense").returncode == 118


def test_the_time_that_is_told_is_a_stopwatchs(warm: Workspace) -> None:
    start = time.monotonic()
    done = launch(warm, "--", "sleep", "1")
    took = time.monotonic() - start
    told = re.search(rb"in all ([\d.]+) s", done.stderr)
    assert told
    # It is rounded, and Python itself has to end, too.
    assert -0.06 < took - float(told[1]) < 0.5


def test_standard_input_reaches_every_command_as_it_is(warm: Workspace, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(40 << 20)
    done = launch(warm, "-q", "--count", "2", "--", "sha256sum", input=data)
    digest = hashlib.sha256(data).hexdigest()
    assert sorted(done.stdout.decode().splitlines()) == [f"[{n}] {digest}  -" for n in (0, 1)]
    file = tmp_path / "in"
    file.write_bytes(b"a\x00\n")
    with file.open("rb") as stream:
        assert launch(warm, "-q", "--", "cat", stdin=stream).stdout == b"a\x00\n"
    done = launch(warm, "-q", "--no-stdin", "--", "cat", input=b"x")
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_pipe_that_says_nothing_holds_nobody_up(warm: Workspace) -> None:
    reader, writer = os.pipe()
    try:
        done = launch(warm, "--", "cat", stdin=reader)
    finally:
        os.close(writer)
        os.close(reader)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"warning: standard input is an open pipe that says nothing" in done.stderr


def test_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(standard_input, "LIMIT", 10)
    for size, fits in ((10, True), (11, False)):
        (tmp_path / "in").write_bytes(b"x" * size)
        with (tmp_path / "in").open() as stream:
            monkeypatch.setattr("sys.stdin", stream)
            read = find_input(None)
            assert read
            if fits:
                assert read() == b"x" * size
            else:
                with pytest.raises(UsageError, match="is larger than 0 MiB"):
                    read()


def test_terminals_and_devices_are_not_read_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal, open(os.devnull) as device:
        for stream in (terminal, device):
            monkeypatch.setattr("sys.stdin", stream)
            assert find_input(None) is None
        assert find_input(True)
    os.close(ours)
    monkeypatch.setattr("sys.stdin", None)
    assert find_input(None) is None
    with pytest.raises(UsageError, match="it is closed"):
        find_input(True)


@pytest.fixture
def remote(warm: Workspace, s3_server: S3Server, s3_bucket: str) -> Workspace:
    """A workspace whose bucket is there without any client."""
    variables = {**warm.variables, **s3_server.environment()}
    (warm.folder / "bucket").write_text(f"s3://{s3_bucket}/jobs")
    return replace(warm, variables=variables)


def detach(workspace: Workspace, *words: str) -> str:
    bucket = (workspace.folder / "bucket").read_text()
    done = launch(workspace, "--detach", "--store", bucket, *words)
    assert done.returncode == 0, done.stderr
    name = done.stdout.decode().strip()
    assert NAME.fullmatch(name)
    assert f"envboot attach {name}" in done.stderr.decode()
    return name


def test_a_detached_launch_runs_on_and_is_attached_to(remote: Workspace) -> None:
    go = remote.folder / "go"
    go.unlink(missing_ok=True)
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.1; done; echo last >&2; exit 7"
    name = detach(remote, "--", "sh", "-c", script)
    assert remote.survivors(), "nothing was terminated"
    attached = remote.start(ENVBOOT, "attach", name)
    assert attached.stdout
    assert attached.stdout.readline() == "first\n"
    # Whoever stops watching ends nothing.
    os.kill(attached.pid, signal.SIGINT)
    assert f"`{name}` runs on" in attached.communicate(timeout=30)[1]
    assert attached.returncode == 130
    assert remote.survivors()
    go.touch()
    done = run(remote, ENVBOOT, "attach", name)
    assert (done.returncode, done.stdout) == (7, b"first\n")
    assert b"last\n" in done.stderr
    assert remote.survivors() == remote.leftovers() == []
    status = json.loads(run(remote, ENVBOOT, "status", name, "--json").stdout)
    assert status["end"]["why"] == "done"
    assert [each["exit_code"] for each in status["instances"]] == [7]
    # Once more, when everything is over.
    done = run(remote, ENVBOOT, "attach", "-q", name)
    assert (done.returncode, done.stdout) == (7, b"first\n")


def test_a_launch_whose_client_was_killed_is_attached_to(remote: Workspace) -> None:
    bucket = (remote.folder / "bucket").read_text()
    script = "echo begun; sleep 2; echo done"
    client = remote.start(*remote.command("--store", bucket, "--", "sh", "-c", script))
    assert client.stdout
    assert client.stdout.readline() == "begun\n"
    client.kill()
    client.communicate()
    done = run(remote, ENVBOOT, "attach", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"begun\ndone\n", b"")
    assert remote.survivors() == remote.leftovers() == []


def test_kept_instances_of_a_detached_launch_stay(remote: Workspace) -> None:
    name = detach(remote, "--keep", "--", "true")
    assert run(remote, ENVBOOT, "attach", name).returncode == 0
    assert remote.leftovers()
    assert run(remote, ENVBOOT, "terminate", name).returncode == 0


def test_what_cannot_be_detached_from_says_why(warm: Workspace) -> None:
    done = launch(warm, "--detach", "--", "true")
    assert done.returncode == 118
    assert b"This process serves it to them" in done.stderr
    done = launch(warm, "--detach", "--on-done", "true", "--", "true")
    assert b"Cannot use `--on-done` or `--notify` with `--detach`" in done.stderr
    assert warm.leftovers() == []


class Hook(ThreadingHTTPServer):
    """Takes notifications; answers with these codes first, then with 200."""

    def __init__(self, *answers: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.bodies: list[Any] = []
        self.url = f"http://127.0.0.1:{self.server_port}/services/SECRET"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Hook)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.answers.pop(0) if self.server.answers else 200
        self.server.bodies.append(json.loads(data))
        self.send_response(code)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_end_is_told_to_a_command_and_a_url(warm: Workspace, hook: Hook) -> None:
    hook.answers = [503]
    told = warm.folder / "told"
    words = ["--on-done", f"env | grep ^ENVBOOT_ | sort >{told}; echo said", "--notify", hook.url]
    done = launch(warm, *words, "--", "sh", "-c", "exit 5")
    assert done.returncode == 5
    assert b"said\n" in done.stderr
    lines = [line for line in told.read_text().splitlines() if "_DIR=" not in line]
    name = NAME.search(done.stderr.decode())
    assert name
    assert lines == [
        "ENVBOOT_EXIT_CODE=5",
        f"ENVBOOT_LAUNCH={name[0]}",
        "ENVBOOT_OUTCOME=failed",
    ]
    assert len(hook.bodies) == 2, "once more after a fault of the server"
    body = hook.bodies[-1]
    assert body["text"].startswith(f"envboot launch {name[0]}: failed, exit code 5, ")
    assert (body["launch"], body["outcome"], body["exit_code"]) == (name[0], "failed", 5)
    assert body["instances"] == [{"name": f"{name[0]}-0", "rank": 0, "exit_code": 5}]


def test_a_url_that_refuses_changes_nothing_and_is_not_shown(warm: Workspace, hook: Hook) -> None:
    hook.answers = [404]
    done = launch(warm, "--notify", hook.url, "--on-done", "exit 9", "--", "true")
    assert done.returncode == 0
    assert b"warning: `--notify` was not delivered to `127.0.0.1`: HTTP 404" in done.stderr
    assert b"warning: `--on-done` exited with 9" in done.stderr
    assert b"SECRET" not in done.stderr
    assert len(hook.bodies) == 1


def test_a_wrong_subcommand_gets_a_suggestion(warm: Workspace) -> None:
    for words, near in ((("lanch",), "launch"), (("store", "lss"), "ls")):
        done = run(warm, ENVBOOT, *words)
        assert done.returncode == 118
        assert f"Did you mean `{near}`?" in done.stderr.decode().replace("`envboot ", "`")
