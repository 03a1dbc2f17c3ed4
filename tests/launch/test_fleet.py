"""`status`, `wait`, `logs` and `why`: a launch while it runs, when it is over, from elsewhere."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.launch.workspace import ENVBOOT, PROGRAM, Workspace, wait_for

if TYPE_CHECKING:
    import subprocess

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def show(workspace: Workspace, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = workspace.run(ENVBOOT, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def status(workspace: Workspace, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(show(workspace, "status", "--json", *words).stdout)
    return document


def test_a_kept_instance_is_seen_waited_for_and_explained(warm: Workspace) -> None:
    launch = warm.launch_json("--count", "2")["launch"]
    document = status(warm)
    assert (document["launch"], document["provisioner"], document["count"]) == (launch, "local", 2)
    assert [each["name"] for each in document["instances"]] == [f"{launch}-0", f"{launch}-1"]
    assert {each["stage"] for each in document["instances"]} == {"ready"}
    assert {each["source"] for each in document["instances"]} == {"archive"}
    table = show(warm, "status", launch).stdout.splitlines()
    assert table[0] == f"launch {launch}: 2 instances of `local`; ends in 23 h"
    assert all(len(line) <= 80 for line in table)
    assert re.match(rf"{launch}-1 +ready +\d+ s +archive +\d\.\d s +- +-$", table[-1])
    again = show(warm, "wait", launch, "--for", "ready").stdout
    assert _without_age(again) == _without_age("\n".join([*table, ""]))
    story = show(warm, "why", launch, f"{launch}-1").stdout
    assert f"{launch}-0" not in story
    assert "The environment is ready (" in story
    assert "from archive" in story


def test_the_output_of_a_launch_that_is_over_is_in_the_bucket(warm: Workspace) -> None:
    launch = warm.launch_json("--count", "2", "--", "python", "-c", PROGRAM)["launch"]
    assert warm.leftovers() == []
    logs = show(warm, "logs", launch).stdout
    assert sorted(logs.splitlines()) == [
        "[0] 1 tiny-one",
        "[1] 1 tiny-one",
    ]
    assert show(warm, "logs", launch, f"{launch}-1").stdout == "1 tiny-one\n"
    assert show(warm, "terminate", launch).stderr == f"nothing of {launch} is left\n"


def _without_age(table: str) -> str:
    """Return a table of instances without how long each has been in its state."""
    return re.sub(r"(?m)(-\d+ +\w+ +)\d+ s +", r"\1", table)


def test_a_report_that_no_agent_wrote_is_named_and_changes_nothing(warm: Workspace) -> None:
    launch = warm.launch_json("--", "true")["launch"]
    before = show(warm, "status", launch).stdout
    (folder,) = (warm.state / "store/reports" / launch / "events").glob(f"{launch}-0")
    (folder / "9999999999999-result.json").write_text("{}")
    for command in ("status", "why", "logs", "wait"):
        assert (
            "warning: Left out 1 report that no agent wrote" in show(warm, command, launch).stderr
        )
    assert _without_age(show(warm, "status", launch).stdout) == _without_age(before)


HOSTILE = r"""
cd "$(ls -td "$BUCKET"/reports/*/events/*-0 | head -n 1)"
for event in result command seated notice publish synced; do
    printf "%100000s" | tr " " "[" > 9999999999997-$event.json
    printf "{\"ms\": 1e9" > 9999999999998-$event.json
    printf "{\"offset\": -5, \"end\": 9e99, \"ms\": 1%0999d}" 0 > 9999999999999-$event.json
done
printf "[]" > ../../launch.json
for name in one-more "$(printf "\\033[2J")"; do
    mkdir "../$name"
    printf "{}" > "../$name/9999999999997-started.json"
    printf "{\"outcome\": \"failed\"}" > "../$name/9999999999998-result.json"
done
printf "\\033[2J\\302\\2332J\\233\\n" ; sleep 1; echo went on
"""


def test_a_launch_that_meets_malformed_reports_goes_on_to_its_end(warm: Workspace) -> None:
    done = warm.launch("--env", f"BUCKET={warm.state}/store", "--", "sh", "-c", HOSTILE)
    assert done.returncode == 0, done.stderr
    # No terminal: `test_foreign_words` has what one would get.
    assert done.stdout == "\x1b[2J\x9b2J\udc9b\nwent on\n"
    assert "warning: Left out 19 reports that no agent wrote" in done.stderr, done.stderr
    shown = show(warm, "status")
    assert re.search(r"-0 +done +\S+ s +archive +\d\.\d s +0 ", shown.stdout)
    assert "launch.json" in shown.stderr


def test_a_failed_command_is_told_by_its_code_and_its_meaning(warm: Workspace) -> None:
    warm.launch("--", "no-such-program")
    done = show(warm, "wait", code=127)
    assert "ended with 127" in done.stderr
    story = show(warm, "why").stdout
    assert "command  ended with 127 after" in story
    assert "neither in the environment nor on the instance's PATH" in story


def test_a_launch_is_seen_from_elsewhere_by_its_bucket(warm: Workspace) -> None:
    launch = warm.launch_json("--", "echo", "hello")["launch"]
    url = f"file://{warm.state}/store"
    elsewhere = {"ENVBOOT_STATE_DIR": str(warm.folder / "elsewhere")}
    done = warm.run(ENVBOOT, "status", launch, "--store", url, **elsewhere)
    assert done.returncode == 0, done.stderr
    assert f"{launch}-0" in done.stdout
    assert warm.run(ENVBOOT, "logs", launch, "--store", url, **elsewhere).stdout == "hello\n"


def test_a_launch_of_another_state_directory_is_neither_failed_nor_gone(warm: Workspace) -> None:
    client = warm.start(*warm.command("--", "sh", "-c", "echo begun; sleep 60"))
    try:
        wait_for(lambda: "begun" in show(warm, "logs").stdout)
        [row] = json.loads(show(warm, "ls", "--json").stdout)
        given = [row["launch"], "--store", f"file://{warm.state}/store"]
        for variable in (str(warm.folder / "elsewhere"), str(warm.folder / "third")):
            elsewhere = {"ENVBOOT_STATE_DIR": variable}
            for word in ("status", "wait", "terminate"):
                done = warm.run(ENVBOOT, word, *given, **elsewhere)
                assert done.returncode == 115, done.stdout + done.stderr
                assert f"Instances of `{row['launch']}` cannot be seen from here" in done.stderr
                assert f"It is not from here, but from `{warm.state}` on `" in done.stderr
                assert f"set `ENVBOOT_STATE_DIR={warm.state}`" in done.stderr
                assert "failed" not in done.stdout
                assert "left" not in done.stderr
        assert [each["state"] for each in status(warm)["instances"]] == ["running"]
    finally:
        client.send_signal(signal.SIGINT)
        client.communicate()


def test_a_launcher_that_was_killed_leaves_a_launch_that_can_be_followed_and_ended(
    warm: Workspace,
) -> None:
    script = "echo first; sleep 2; echo last; sleep 60"
    client = warm.start(*warm.command("--", "sh", "-c", script))
    try:
        wait_for(lambda: "first" in show(warm, "logs").stdout)
    finally:
        client.send_signal(signal.SIGKILL)
        client.communicate()
    [row] = json.loads(show(warm, "ls", "--json").stdout)
    assert (row["state"], row["provisioner"]) == ("running", "local")
    wait_for(lambda: "last" in show(warm, "logs", row["launch"]).stdout)
    done = show(warm, "wait", "--timeout", "0.5", code=124)
    assert "The command was still running after 0.5 s" in done.stderr
    assert show(warm, "terminate", row["launch"]).stderr == f"ended {row['name']}\n"
    assert warm.survivors() == []


def test_an_interrupted_launch_is_over_and_nobody_waits_for_it(warm: Workspace) -> None:
    client = warm.start(*warm.command("--", "sh", "-c", "echo begun; sleep 60"))
    wait_for(lambda: "begun" in show(warm, "logs").stdout)
    client.send_signal(signal.SIGINT)
    client.communicate()
    document = status(warm)
    assert document["end"]["why"] == "interrupted"
    assert "; it is over: interrupted, at 20" in show(warm, "status").stdout
    assert "it is over: interrupted, at 20" in show(warm, "why").stdout
    done = show(warm, "wait", code=130)
    assert "was ended by SIGINT" in done.stderr
    past = json.loads(show(warm, "ls", "--past", "--json").stdout)
    assert past[-1]["launch"] == document["launch"]
    assert document["launch"] in show(warm, "ls", "--past").stdout


def test_a_launch_that_failed_is_listed_as_such(warm: Workspace) -> None:
    names = [warm.launch_json("--", "true")["launch"]]
    warm.launch("--", "false")
    past = json.loads(show(warm, "ls", "--past", "--json").stdout)
    assert past[-2]["launch"] == names[0]
    assert [each["outcome"] for each in past[-2:]] == ["done", "failed"]
    assert show(warm, "ls", "--past").stdout.splitlines()[-1].split()[2] == "failed"


def test_instances_are_listed_with_their_state_and_end(warm: Workspace) -> None:
    launch = warm.launch_json("--max-life", "3h")["launch"]
    table = show(warm, "ls").stdout.splitlines()
    assert table[0].split("  ")[-1].strip() == "ENDS IN"
    assert table[-1].split() == [f"{launch}-0", launch, "local", "ready", "2", "h"]
    assert all(len(line) <= 80 for line in table)


def test_a_launch_of_which_nothing_ever_reported_is_not_waited_for(warm: Workspace) -> None:
    launch = warm.launch_json("--", "true")["launch"]
    for file in (warm.state / f"store/reports/{launch}/events").glob("*/*.json"):
        file.unlink()
    done = show(warm, "wait", launch, code=116)
    assert f"No instance of `{launch}` reported; it is over: done, at 20" in done.stderr


def test_an_instance_that_cannot_come_up_is_waited_for_no_longer(warm: Workspace) -> None:
    (warm.index / "tiny_two-1.0-py3-none-any.whl").rename(warm.folder / "away.whl")
    try:
        store = f"file://{warm.folder}/empty"
        done = warm.launch("--keep", "--store", store)
        assert done.returncode == 116
        again = show(warm, "wait", code=116)
        assert "install: uv failed" in again.stderr
        assert "error    install: uv failed" in show(warm, "why").stdout
    finally:
        (warm.folder / "away.whl").rename(warm.index / "tiny_two-1.0-py3-none-any.whl")


@pytest.mark.parametrize("word", ["status", "wait", "logs", "why", "terminate"])
def test_an_unknown_launch_is_told_with_the_bucket_that_was_asked(
    warm: Workspace, word: str
) -> None:
    done = show(warm, word, "20200101-000000-abcd", code=118)
    assert "Unknown launch `20200101-000000-abcd` in `file://" in done.stderr


def test_an_unknown_instance_is_told_with_those_that_there_are(warm: Workspace) -> None:
    launch = warm.launch_json()["launch"]
    done = show(warm, "logs", launch, "nothing", code=118)
    assert "Unknown instance `nothing`" in done.stderr
    assert f"The launch has `{launch}-0`" in done.stderr


def test_without_any_launch_the_way_to_name_one_is_told(fresh: Workspace) -> None:
    done = show(fresh, "status", code=118)
    assert "none was made from here" in done.stderr
