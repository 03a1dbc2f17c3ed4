"""The main job from the outside: cold, warm, edited; many at once; any bucket."""

from __future__ import annotations

import os
import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.launch.workspace import PROGRAM, Workspace, write_value
from tests.servers import s3_bucket, s3_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import S3Server

__all__ = ["s3_bucket", "s3_server"]
pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def test_cold_installs_and_publishes_warm_fetches_and_an_edit_moves_only_the_layer(
    fresh: Workspace,
) -> None:
    cold = fresh.launch_json("--", "python", "-c", PROGRAM)
    [instance] = cold["instances"]
    assert (instance["source"], instance["outcome"]) == ("install", "ready")
    assert (instance["exit_code"], instance["output"]) == (0, "1 tiny-one\n")
    assert {"install", "layer", "ready", "command", "publish"} <= instance["stages"].keys()

    warm = fresh.launch_json("--", "python", "-c", PROGRAM)
    [instance] = warm["instances"]
    assert (instance["source"], instance["output"]) == ("archive", "1 tiny-one\n")
    assert not {"install", "publish"} & instance["stages"].keys()
    assert (warm["base"], warm["environment"]) == (cold["base"], cold["environment"])

    write_value(fresh.folder, 2)
    edited = fresh.launch_json("--", "python", "-c", PROGRAM)
    [instance] = edited["instances"]
    assert (instance["source"], instance["output"]) == ("archive", "2 tiny-one\n")
    assert edited["base"] == cold["base"]
    assert edited["environment"] != cold["environment"]
    assert fresh.leftovers() == fresh.survivors() == []


def test_steps_and_stages_are_timed_and_add_up(warm: Workspace) -> None:
    document = warm.launch_json("--", "python", "-c", "import time; time.sleep(0.3)")
    assert list(document["steps"]) == ["scan", "lock", "build", "upload", "render", "start", "wait"]
    [instance] = document["instances"]
    assert 0.3 <= instance["stages"]["command"] <= document["steps"]["wait"]
    parts = ("probe", "fetch", "layer", "verify", "activate")
    total = sum(instance["stages"][name] for name in parts)
    assert instance["stages"]["ready"] == pytest.approx(total, abs=1e-6)


def test_lines_of_several_instances_are_labelled_and_never_mixed(warm: Workspace) -> None:
    program = (
        "import sys, time\n"
        "for i in range(20):\n"
        "    for piece in ('line', f' {i:02} ', 'x' * 50, '\\n'):\n"
        "        sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.003)\n"
        "sys.stdout.write('last, not ended')\n"
    )
    done = warm.launch("--count", "3", "--", "python", "-c", program)
    assert done.returncode == 0, done.stderr
    lines: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"\[(\d)\] (.*)", line)
        assert match, line
        lines.setdefault(match[1], []).append(match[2])
    wanted = [f"line {i:02} {'x' * 50}" for i in range(20)] + ["last, not ended"]
    assert lines == dict.fromkeys("012", wanted)
    assert "3 ready from archive" in done.stderr


def test_one_archive_serves_many_and_only_one_cold_instance_publishes_it(
    fresh: Workspace,
) -> None:
    cold = fresh.launch_json("--count", "3", "--", "true")
    assert {instance["source"] for instance in cold["instances"]} == {"install"}
    assert len(list(fresh.state.glob("store/base/*/env.tar.zst"))) == 1
    warm = fresh.launch_json("--count", "3", "--", "true")
    assert [instance["source"] for instance in warm["instances"]] == ["archive"] * 3
    assert len({instance["name"] for instance in warm["instances"]}) == 3


def test_the_bucket_may_be_on_s3(warm: Workspace, s3_server: S3Server, s3_bucket: str) -> None:
    url, variables = f"s3://{s3_bucket}/team", s3_server.environment()
    cold = warm.launch_json("--store", url, "--", "python", "-c", PROGRAM, **variables)
    assert cold["instances"][0]["source"] == "install"
    again = warm.launch_json("--store", url, "--", "python", "-c", PROGRAM, **variables)
    assert again["instances"][0]["source"] == "archive"
    assert again["instances"][0]["output"] == "1 tiny-one\n"
    assert again["base"] == cold["base"]
    listed = s3_server.client().list_objects_v2(Bucket=s3_bucket)["Contents"]
    keys = [item["Key"] for item in listed]
    assert all(key.startswith("team/") for key in keys)
    assert len([key for key in keys if key.endswith("/env.tar.zst")]) == 1


def test_variables_arrive_as_they_were_given(warm: Workspace) -> None:
    value = "a b\t'\"$HOME`x`=ü"
    program = "import os; print(ascii(os.environ['MY_VALUE']))"
    words = ("--env", f"MY_VALUE={value}", "--", "python", "-c", program)
    assert warm.launch_json(*words)["instances"][0]["output"] == ascii(value) + "\n"


def test_arguments_arrive_as_they_were_given(warm: Workspace) -> None:
    words = ["--count", "", "a b", "$HOME", "*", "ü", "'", '"', "\\", "new\nline"]
    program = "import sys; print(ascii(sys.argv[1:]))"
    document = warm.launch_json("--", "python", "-c", program, *words)
    assert document["instances"][0]["output"] == ascii(words) + "\n"


def test_raw_output_is_passed_on_byte_by_byte(warm: Workspace, tmp_path: Path) -> None:
    program = "import sys, random; sys.stdout.buffer.write(random.Random(1).randbytes(3_000_000))"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(
            warm.command("--raw", "--", "python", "-c", program),
            env=warm.variables,
            cwd=warm.folder,
            stdout=out,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    assert (tmp_path / "out").read_bytes() == random.Random(1).randbytes(3_000_000)


def test_the_tail_of_any_output_fits_into_the_report(warm: Workspace) -> None:
    # A zero takes six bytes in JSON.
    words = ("--", "head", "-c", "1000000", "/dev/zero")
    output = warm.launch_json(*words)["instances"][0]["output"]
    assert set(output) == {"\0"}
    assert len(output) >= 256 << 10


def test_a_command_reads_nothing_from_this_terminal(warm: Workspace) -> None:
    assert warm.launch_json("--", "cat")["instances"][0]["output"] == ""


def test_the_environment_that_launches_does_not_show_through(warm: Workspace) -> None:
    program = "import os, sys; print(sys.prefix); print(os.environ.get('PYTHONPATH'))"
    document = warm.launch_json("--", "python", "-c", program, PYTHONPATH=os.fspath(warm.folder))
    prefix, path = document["instances"][0]["output"].splitlines()
    assert prefix.startswith(str(warm.state / "local"))
    assert path == "None"


@pytest.mark.parametrize("name", ["50%25 a&b?#", "quo'te\"$x\\", "ünï", "x" * 200])
def test_any_name_of_a_folder_will_do(warm: Workspace, tmp_path: Path, name: str) -> None:
    state = tmp_path / name
    words = ("--", "python", "-c", PROGRAM)
    document = warm.launch_json(*words, ENVBOOT_STATE_DIR=str(state))
    assert document["instances"][0]["output"] == "1 tiny-one\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list(state.glob("store/base/*/index.json"))) == 1


def test_a_program_of_any_length_can_be_given(warm: Workspace) -> None:
    program = "print('a long one')  #" + "x" * 100_000
    document = warm.launch_json("--", "python", "-c", program)
    assert document["instances"][0]["output"] == "a long one\n"


def test_a_damaged_archive_costs_an_installation_and_is_replaced(fresh: Workspace) -> None:
    fresh.launch_json("--", "true")
    [archive] = fresh.state.glob("store/base/*/env.tar.zst")
    with archive.open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"\0" * 100)
    damaged = archive.read_bytes()
    document = fresh.launch_json("--", "python", "-c", PROGRAM)
    [instance] = document["instances"]
    assert (instance["outcome"], instance["source"]) == ("degraded", "install")
    assert instance["output"] == "1 tiny-one\n"
    assert [error["stage"] for error in instance["errors"]] == ["fetch"]
    [note] = [note for note in document["notes"] if note["subject"].endswith("/index.json")]
    assert "it is removed, and machines publish another" in note["message"]
    sources = [fresh.launch_json("--", "true")["instances"][0]["source"] for _ in "ab"]
    assert sources == ["install", "archive"]
    archive.write_bytes(damaged)
    shown = fresh.launch("--", "true").stderr
    assert "it is removed, and machines publish another" in shown
    assert "went wrong: fetch: corrupt" in shown
