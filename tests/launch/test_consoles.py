"""Instances that cannot even report: what they say on their consoles ends the waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.errors import GuestError
from envboot.fleet import watch as fleet
from envboot.fleet.watch import Fleet, Goal, find_failure, wait
from envboot.store.local.store import LocalStore
from envboot.userdata import LaunchPath
from envboot_provisioners import Instance, Option, Options, StartRequest, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from envboot.doctor.check import Check
    from envboot.errors import EnvbootError
    from envboot.fleet.outcomes import Outcome

CONSOLE = """\
[    2.1] cloud-init[210]: Cloud-init v. 22.4.2 running 'init'
[   17.5] envboot: failed: micromamba: this machine has no role\r
debian login:
"""


class Cloud:
    """A provisioner whose instances run, and print what they are given."""

    name = "cloud"
    is_remote = True
    guest_loopback: str | None = None
    host_python = False
    ends_instances = False
    role: str | None = None
    options: tuple[Option, ...] = ()

    def __init__(self, consoles: dict[str, str]) -> None:
        self.consoles = consoles
        self.read: list[str] = []

    def check(self, options: Options, *, by_role: bool = False) -> None:
        return None

    def render_for(self, options: Options) -> LaunchPath:
        return LaunchPath.EC2

    def is_interruptible(self, options: Options) -> bool:
        return False

    def start(self, request: StartRequest) -> list[Instance]:
        return self.instances()

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        return {each.name: State(alive=True, word="running") for each in instances}

    def console(self, instance: Instance) -> str:
        self.read.append(instance.name)
        return self.consoles[instance.name]

    def place(self, options: Options) -> dict[str, str]:
        return {}

    def instances(
        self, launch: str | None = None, place: Mapping[str, str] | None = None
    ) -> list[Instance]:
        return [Instance(name=name, launch="one") for name in self.consoles]

    def forget(self, launch: str) -> None:
        return None

    def terminate(self, instances: Sequence[Instance], *, keep: bool = False) -> None:
        return None

    def doctor(self, options: Options, *, by_role: bool = False, count: int = 1) -> Iterator[Check]:
        yield from ()


class Looker:
    def progress(self, outcomes: Sequence[Outcome]) -> None:
        return None

    def silence(self, error: EnvbootError, seconds: float) -> None:
        return None


def wait_for(cloud: Cloud, tmp_path: Path, *reports: str) -> list[Outcome]:
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        for name in reports:
            store.create(f"reports/one/events/{name}.json", b'{"outcome": "ready"}')
        watched = Fleet(launch="one", store=store, provisioner=cloud, count=len(cloud.consoles))
        watched.add(cloud.instances())
        return wait(watched, Goal.READY, timeout=20, looker=Looker())


@pytest.fixture(autouse=True)
def _listen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SILENT", 0)


def test_an_instance_that_gave_up_without_a_report_is_not_waited_for(tmp_path: Path) -> None:
    cloud = Cloud({"i-1": "booting", "i-2": CONSOLE})
    with pytest.raises(GuestError, match="1 instances, which cannot report: `i-2`") as caught:
        wait_for(cloud, tmp_path)
    assert caught.value.causes == ("`i-2`: failed: micromamba: this machine has no role",)


def test_the_console_of_an_instance_that_reports_is_not_read(tmp_path: Path) -> None:
    cloud = Cloud({"i-1": CONSOLE})
    assert wait_for(cloud, tmp_path, "i-1/1764000000000-result")
    assert cloud.read == []


@pytest.mark.parametrize(
    "line",
    [
        "envboot: Expected Python 3.9 or later as `python3`, found none",
        "envboot: Failed to fetch the agent",
        "envboot: failed: the manifest is of another digest",
    ],
)
def test_script_and_agent_say_on_the_console_that_they_gave_up(line: str) -> None:
    assert find_failure(f"noise\n{line}\nmore") == line.partition(": ")[2]


@pytest.mark.parametrize("line", ["envboot: ready in 800 ms, from archive", "envboot: degraded"])
def test_what_went_well_is_no_failure(line: str) -> None:
    assert find_failure(line) is None
