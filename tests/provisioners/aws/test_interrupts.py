"""Ctrl-C, or worse, at any moment of a start: no machine is left that nobody ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot_provisioners.aws import AwsProvisioner
from tests.provisioners.aws.plans import LAUNCH
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ec2 import Ec2

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

PROGRAM = """\
import signal, sys
from tests.provisioners.aws.plans import make_request
from envboot_provisioners.aws import AwsProvisioner
from tests.sessions import make_session
signal.signal(signal.SIGINT, signal.default_int_handler)
AwsProvisioner(make_session()).start(make_request(count=int(sys.argv[1])))
print("started", flush=True)
signal.pause()
"""


def start(ec2: Ec2, state: Path, *, count: int) -> subprocess.Popen[str]:
    """Start instances in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(count)],
        env={**os.environ, "ENVBOOT_STATE_DIR": str(state)},
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(look: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not look():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_asked(ec2: Ec2, action: str, times: int = 1) -> Callable[[], bool]:
    return lambda: len(ec2.actions(action)) >= times


def interrupt(process: subprocess.Popen[str]) -> None:
    """Send what Ctrl-C sends, and wait for the end that it brings."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors, errors
    assert process.returncode == -signal.SIGINT


def test_while_aws_is_asked_what_there_is(ec2: Ec2, tmp_path: Path) -> None:
    ec2.strike("DescribeImages", "wait")
    process = start(ec2, tmp_path, count=3)
    wait_for(has_asked(ec2, "DescribeImages"))
    interrupt(process)
    assert not ec2.actions("RunInstances")


@pytest.mark.parametrize("times", [1, 2])
def test_while_instances_are_being_started(ec2: Ec2, tmp_path: Path, times: int) -> None:
    # The answer arrives after the interrupt; of the second call, what the first one started
    # must go too.
    ec2.strike("RunInstances", "wait", where="MaxCount=100" if times == 1 else "MaxCount=50")
    process = start(ec2, tmp_path, count=150)
    wait_for(has_asked(ec2, "RunInstances", times))
    time.sleep(0.2)
    interrupt(process)
    # The call was under way, and was waited for.
    assert len(ec2.tokens) == times
    assert not ec2.actions("DescribeInstances")
    assert ec2.alive(LAUNCH) == []
    assert not list(tmp_path.glob("aws/*"))


def test_while_a_lost_answer_is_waited_for(ec2: Ec2, tmp_path: Path) -> None:
    ec2.strike("RunInstances", "lose the answer", times=99)
    process = start(ec2, tmp_path, count=3)
    wait_for(has_asked(ec2, "RunInstances", 2))
    time.sleep(0.3)
    assert len(ec2.alive(LAUNCH)) == 3
    interrupt(process)
    assert ec2.alive(LAUNCH) == []
    assert not list(tmp_path.glob("aws/*"))


def test_again_while_they_are_being_ended(ec2: Ec2, tmp_path: Path) -> None:
    ec2.strike("RunInstances", "wait", times=1)
    ec2.strike("TerminateInstances", "wait", times=1)
    process = start(ec2, tmp_path, count=3)
    wait_for(has_asked(ec2, "RunInstances"))
    process.send_signal(signal.SIGINT)
    wait_for(has_asked(ec2, "TerminateInstances"))
    interrupt(process)
    assert ec2.alive(LAUNCH) == []


def test_what_a_killed_process_has_started_is_found_and_ended_by_the_next(
    ec2: Ec2, tmp_path: Path
) -> None:
    ec2.strike("RunInstances", "wait")
    process = start(ec2, tmp_path, count=3)
    wait_for(has_asked(ec2, "RunInstances"))
    process.kill()
    process.communicate()
    wait_for(lambda: len(ec2.alive(LAUNCH)) == 3)
    later = AwsProvisioner(make_session(state=tmp_path))
    found = later.instances()
    assert {item.name for item in found} == {item["InstanceId"] for item in ec2.alive(LAUNCH)}
    later.terminate(found)
    assert ec2.alive(LAUNCH) == []
    assert not list(tmp_path.glob("aws/*"))
