"""What a user reads: whole commands with exit code, stdout and stderr, times and names masked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.launch.workspace import ENVBOOT, PROGRAM, Workspace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Golden = Callable[[str, str | bytes], None]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def mask(text: str, workspace: Workspace) -> str:
    """Hide what differs from run to run, and the stages that were seen on the way."""
    text = text.replace(str(workspace.folder), "WORK")
    text = re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "LAUNCH", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    text = re.sub(r" +\d+\.\d\d s", lambda match: "0.00 s".rjust(len(match[0])), text)
    text = re.sub(r"\b\d+\.\d s\b", "0.0 s", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "HEX", text)
    return re.sub(r"(?m)^LAUNCH-\d: .*\n", "", text)


def transcript(done: subprocess.CompletedProcess[str], workspace: Workspace) -> str:
    """Show a whole command."""
    words = ["envboot", *done.args[1:]] if done.args[0] == ENVBOOT else done.args
    line = " ".join(f"'{word}'" if " " in word or not word else word for word in words)
    output = "".join(sorted(mask(done.stdout, workspace).splitlines(keepends=True)))
    return (
        f"$ {line.replace(str(workspace.folder), 'WORK')}\n"
        f"exit code: {done.returncode}\n"
        f"----- stdout -----\n{output}"
        f"----- stderr -----\n{mask(done.stderr, workspace)}"
    )


def test_success(warm: Workspace, golden: Golden) -> None:
    done = warm.launch("--", "python", "-c", PROGRAM)
    assert re.search(r"(?m)^\d{8}-\d{6}-[0-9a-f]{4}-0: starting$", done.stderr)
    golden("launch-success.txt", transcript(done, warm))


def test_a_cold_start(fresh: Workspace, golden: Golden) -> None:
    golden("launch-cold.txt", transcript(fresh.launch("--", "python", "-c", PROGRAM), fresh))


def test_two_instances(warm: Workspace, golden: Golden) -> None:
    done = warm.launch("--count", "2", "--", "python", "-c", PROGRAM)
    golden("launch-two.txt", transcript(done, warm))


def test_many_instances(warm: Workspace, golden: Golden) -> None:
    done = warm.launch("--count", "5", "--", "echo", "hello")
    golden("launch-many.txt", transcript(done, warm))


def test_a_failing_command(warm: Workspace, golden: Golden) -> None:
    done = warm.launch("--", "sh", "-c", "echo to stdout; echo to stderr >&2; exit 3")
    golden("launch-failing-command.txt", transcript(done, warm))


def test_a_command_that_is_not_there(warm: Workspace, golden: Golden) -> None:
    done = warm.launch("--", "no-such-program")
    golden("launch-no-such-command.txt", transcript(done, warm))


def test_a_command_that_is_killed(warm: Workspace, golden: Golden) -> None:
    done = warm.launch("--", "sh", "-c", "kill -KILL $$")
    golden("launch-killed-command.txt", transcript(done, warm))


def test_one_of_several_commands_fails(warm: Workspace) -> None:
    script = 'case $ENVBOOT_RANK in 1) exit 9;; 2) exit 3; esac; echo "well"'
    done = warm.launch("--count", "4", "--", "sh", "-c", script)
    assert done.returncode == 9, "the first by rank"
    assert done.stdout.count("well") == 2
    assert "error: The command failed on 2 of 4 instances" in done.stderr
    assert re.search(r"caused by: `\S+-1` ended with 9", done.stderr)


def test_no_command_leaves_the_instance(warm: Workspace, golden: Golden) -> None:
    shown = transcript(warm.launch(), warm)
    for words in ("ls", "terminate --all", "ls"):
        shown += "\n" + transcript(warm.run(ENVBOOT, *words.split()), warm)
    golden("launch-no-command.txt", shown)
    assert warm.leftovers() == warm.survivors() == []


def test_a_failing_guest(fresh: Workspace, golden: Golden) -> None:
    # It is still on the index when the lock is made, and gone when the instance asks.
    fresh.launch("--", "true")
    fresh.run("rm", "-r", str(fresh.state / "store"), str(fresh.folder / "uv"))
    for wheel in fresh.index.glob("*.whl"):
        wheel.unlink()
    done = fresh.launch("--", "python", "-c", PROGRAM)
    assert "-0: failed\n" in done.stderr
    assert "-0: ready\n" not in done.stderr
    assert "tiny" in done.stderr.partition("caused by")[2]
    # What uv says depends on its version.
    done.stderr = re.sub(r"(?s)(caused by: \S+ install: ).*?\n\n", r"\1…\n\n", done.stderr)
    golden("launch-failing-guest.txt", transcript(done, fresh))
    assert fresh.leftovers() == fresh.survivors() == []


def test_a_time_out(warm: Workspace, golden: Golden) -> None:
    words = ["--timeout", "1.5", "--", "sh", "-c", "echo so far; sleep 600"]
    golden("launch-timeout.txt", transcript(warm.launch(*words), warm))
    assert warm.leftovers() == warm.survivors() == []


def test_usage_errors(warm: Workspace, golden: Golden) -> None:
    (warm.folder / "part.yaml").write_text("#cloud-config\nruncmd: [ls]\n")
    cases = [
        ["launch"],
        ["launch", "nowhere", "--", "true"],
        ["launch", "local", "python", "--epochs", "3"],
        ["launch", "local", "--count", "0", "--", "true"],
        ["launch", "local", "--timeout", "0", "--", "true"],
        ["launch", "local", "--memory", "512", "--cpus", "2", "--", "true"],
        ["launch", "local", "--env", "1A=x", "--", "true"],
        ["launch", "local", "--env", "A", "--", "true"],
        ["launch", "local", "--part", "missing.yaml", "--", "true"],
        ["launch", "local", "--part", "part.yaml", "--", "true"],
        ["launch", "local", "--store", "ftp://host/x", "--", "true"],
        ["launch", "local", "--store", "file://relative", "--", "true"],
        ["launch", "local", "--python", "missing", "--", "true"],
        ["terminate"],
        ["terminate", "--all", "x"],
        ["terminate", "20200101-000000-abcd"],
        ["nothing"],
    ]
    shown = [transcript(warm.run(ENVBOOT, *case), warm) for case in cases]
    golden("launch-usage.txt", "\n".join(shown))
    assert warm.leftovers() == []


def test_buckets_that_refuse(warm: Workspace, golden: Golden) -> None:
    (warm.folder / "file").write_text("")
    shown = transcript(warm.launch("--store", f"file://{warm.folder}/file", "--", "true"), warm)
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    keys |= {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    done = warm.launch("--store", "s3://bucket/x", "--", "true", **keys)
    golden("launch-buckets.txt", shown + "\n" + transcript(done, warm))
    assert warm.leftovers() == []
