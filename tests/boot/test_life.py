"""Machines whose client is gone: they end by themselves, and what they did is seen from anywhere.

The API is moto's. What it does not do by itself is what `InstanceInitiatedShutdownBehavior` asks
for: here a machine that has powered off is terminated.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.boot.account import ENVBOOT, STORE, Account, open_account
from tests.boot.cloud import attend
from tests.boot.machine import Spec, boot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from threading import Event

    from tests.boot.cloud import Booter

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]

LONGEST = 150
"""Seconds within which such a machine must have ended on a busy host of two cores."""
OFF: list[str] = []
"""The machines that have powered themselves off."""


def boot_until_off(
    root: Path, folder: Path, ports: tuple[int, ...], role: Callable[[], dict[str, str]]
) -> Booter:
    """Return a booter of containers that run until they power off, or are ended."""
    del role

    def run(
        instance: str, user_data: bytes, *, role: str | None, address: str, ended: Event
    ) -> None:
        spec = Spec(
            user_data=user_data, datasource="ec2", instance=instance, ports=ports, stays=True
        )
        with boot(instance, spec, root=root, folder=folder / instance) as machine:
            attend(instance, machine.process, folder / instance / "console.txt", ended)
            if machine.process.poll() == 0:
                OFF.append(instance)

    return run


@pytest.fixture(scope="module")
def account(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("life") / "account"
    with open_account(
        folder, lambda ports, role: boot_until_off(root, folder / "machines", ports, role)
    ) as opened:
        yield opened


def wait_for(condition: Callable[[], Any], seconds: float = LONGEST) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("options", "command", "why"),
    [
        ((), "echo it runs; sleep 12; echo and ends; exit 3", "done"),
        (("--max-life", "60s"), "echo it runs; sleep 600", "max-life"),
    ],
)
def test_a_machine_whose_client_was_killed_powers_itself_off(
    account: Account, options: tuple[str, ...], command: str, why: str
) -> None:
    words = ["launch", "aws", "--python", str(account.prefix), "--store", STORE, *options]
    before = set(account.cloud.states())
    client = subprocess.Popen(
        [*ENVBOOT, *words, "--", "sh", "-c", command],
        env=account.variables,
        cwd=account.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert client.stdout
    seen = b""
    while b"it runs" not in seen:
        line = client.stdout.readline()
        seen += line
        assert line, seen.decode()
    os.killpg(client.pid, signal.SIGKILL)
    client.communicate()
    (instance,) = set(account.cloud.states()) - before
    wait_for(lambda: instance in OFF)
    account.cloud.client.terminate_instances(InstanceIds=[instance])
    (launch,) = {
        tag["Value"]
        for tag in account.cloud.describe()[instance]["Tags"]
        if tag["Key"] == "envboot:launch"
    }
    # From a machine that never knew of it.
    account.variables["ENVBOOT_STATE_DIR"] = str(account.folder / f"elsewhere-{why}")
    done = account.run("status", launch, "--store", STORE, "--json")
    document = json.loads(done.stdout)
    (row,) = document["instances"]
    assert row["state"] == ("failed" if why == "done" else "terminated")
    assert (row["platform_state"], row["ended"]["why"]) == ("terminated", why)
    # What is killed with the machine may be quick enough to say so.
    assert row["exit_code"] in ((3,) if why == "done" else (None, -15))
    if why == "done":
        assert row["stages"]["publish"] > 0
    assert account.run("terminate", launch, "--store", STORE).stderr == (
        f"nothing of {launch} is left\n"
    )
