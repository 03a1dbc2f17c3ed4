"""What every provisioner does alike: one suite over all of them."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from envboot.errors import ProvisionError
from envboot.store.protocol import RoleAccess
from envboot.userdata import LaunchPath
from envboot_provisioners import Instance, Option, StartRequest, load_provisioner, provisioner_names
from tests.ec2 import ec2 as ec2
from tests.ec2 import ec2_server as ec2_server
from tests.gce import gce as gce
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot_provisioners import Options, Provisioner

pytestmark = [pytest.mark.sockets, pytest.mark.subprocess]
ROOT = Path(__file__).parents[2]
LAUNCH = "20261124-120000-ab12"
SLEEPER = b"#!/bin/sh\nexec sleep 60\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A provisioner with its platform behind it; `wrong` are options that it must refuse."""

    provisioner: Provisioner
    options: Options = field(default_factory=dict)
    wrong: Options | None = None

    def start(self, count: int = 2, launch: str = LAUNCH, first: int = 0) -> list[Instance]:
        return self.provisioner.start(
            StartRequest(
                launch=launch,
                count=count,
                user_data=SLEEPER,
                fixed_prefix=False,
                options=self.options,
                first=first,
            )
        )

    def again(self) -> Provisioner:
        """Return the same one as another process sees it."""
        return load_provisioner(self.provisioner.name, make_session())


@pytest.fixture(params=["local", "qemu", "aws", "gcp"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    name = request.param
    monkeypatch.setenv("ENVBOOT_STATE_DIR", str(tmp_path / "state"))
    options: dict[str, Any] = {}
    wrong: dict[str, Any] | None = {"root-size": "0"}
    if name == "aws":
        request.getfixturevalue("ec2")
    elif name == "gcp":
        request.getfixturevalue("gce")
        monkeypatch.setattr("envboot_provisioners.gcp.starting.LOOK", 0.01)
    elif name == "qemu":
        if not shutil.which("qemu-system-x86_64"):
            pytest.skip("needs qemu-system-x86")
        image = tmp_path / "disk.raw"
        # A boot sector that does nothing for ever.
        image.write_bytes(b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
        options = {"image": str(image), "memory": "64"}
        wrong = {**options, "memory": "much"}
    else:
        wrong = None
    made = Case(provisioner=load_provisioner(name, make_session()), options=options, wrong=wrong)
    yield made
    made.provisioner.terminate(made.provisioner.instances())


def test_every_installed_provisioner_is_held_to_this(request: pytest.FixtureRequest) -> None:
    assert provisioner_names() == ["aws", "gcp", "local", "qemu"]


def test_it_says_what_it_is_without_asking_anyone(case: Case) -> None:
    made = case.provisioner
    assert made.name in provisioner_names()
    names = [option.name for option in made.options]
    assert len(set(names)) == len(names)
    for option in made.options:
        assert isinstance(option, Option)
        assert re.fullmatch(r"[a-z][a-z-]*", option.name)
        assert option.help.endswith((".", "]"))
    assert isinstance(made.render_for({}), LaunchPath)
    assert made.is_interruptible({}) is False
    kinds = get_args(RoleAccess.__dataclass_fields__["kind"].type) or ("aws", "gcp")
    assert made.role is None or made.role in kinds
    assert made.instances() == []


def test_it_knows_the_platform_and_refuses_what_could_never_start(case: Case) -> None:
    platform = case.provisioner.check(case.options)
    assert platform in (None, "linux-64", "linux-aarch64")
    if case.wrong is not None:
        with pytest.raises(ProvisionError):
            case.provisioner.check(case.wrong)


def test_machines_without_a_role_cannot_ask_by_one(case: Case) -> None:
    if case.provisioner.role is not None:
        with pytest.raises(ProvisionError, match=r"Expected .* found none"):
            case.provisioner.check(case.options, by_role=True)


def test_what_is_started_is_listed_alive_and_found_by_its_launch(case: Case) -> None:
    made = case.provisioner
    started = case.start()
    other = case.start(1, "20261124-130000-cd34")
    names = [instance.name for instance in started]
    assert len({*names, other[0].name}) == 3
    assert {instance.launch for instance in started} == {LAUNCH}
    for seen in (made, case.again()):
        assert {each.name for each in seen.instances()} == {*names, other[0].name}
        assert {each.name for each in seen.instances(LAUNCH)} == set(names)
        assert seen.instances("20261124-140000-ef56") == []
    assert {name: state.alive for name, state in made.states(started).items()} == dict.fromkeys(
        names, True
    )
    assert isinstance(made.console(started[0]), str)


def test_what_is_ended_is_dead_and_listed_no_more(case: Case) -> None:
    made = case.provisioner
    first, second = case.start()
    made.terminate([first])
    assert [each.name for each in made.instances(LAUNCH)] == [second.name]
    states = made.states([first, second])
    assert (states[first.name].alive, states[second.name].alive) == (False, True)
    # Whoever sees it later, from another process, can end it too; and again is no error.
    other = case.again()
    other.terminate(other.instances(LAUNCH))
    assert case.again().instances() == []
    assert not made.states([second])[second.name].alive
    made.terminate([first, second])


def test_one_launch_may_be_started_in_several_calls(case: Case) -> None:
    made = case.provisioner
    first = case.start(2)
    second = case.start(1, first=2)
    started = [*first, *second]
    assert len({instance.name for instance in started}) == 3
    assert {each.name for each in made.instances(LAUNCH)} == {each.name for each in started}
    assert all(state.alive for state in made.states(started).values())
    made.terminate(second)
    assert {each.name for each in made.instances(LAUNCH)} == {each.name for each in first}
    assert all(state.alive for state in made.states(first).values())


def test_each_instance_tells_its_own_address_or_none_has_one(case: Case) -> None:
    made = case.provisioner
    started = [*case.start(2), *case.start(1, first=2)]
    addresses = {instance.address for instance in started}
    if case.provisioner.name == "qemu":
        # Each is behind a network of its own.
        assert addresses == {None}
        return
    assert len(addresses - {None}) == 3
    listed = {each.name: each.address for each in case.again().instances(LAUNCH)}
    assert listed == {each.name: each.address for each in started}
    public = {state.public_address for state in made.states(started).values()}
    # Only a cloud's can be reached from elsewhere.
    assert (None not in public) == (made.role is not None)
    assert not public & addresses or public == {None}


def test_the_doctor_tries_what_a_launch_needs_and_starts_nothing(case: Case) -> None:
    checks = list(case.provisioner.doctor(case.options))
    assert checks
    assert all(check.name.startswith(f"{case.provisioner.name} ") for check in checks)
    assert {check.status for check in checks} <= {"ok", "warning", "skipped"}, checks
    assert case.again().instances() == []


def test_the_doctor_tells_of_what_is_wrong_and_raises_nothing(case: Case) -> None:
    if case.wrong is not None:
        checks = list(case.provisioner.doctor(case.wrong))
        assert "failed" in {check.status for check in checks}, checks


def test_a_state_of_what_nobody_knows_is_an_end(case: Case) -> None:
    stranger = Instance(name="nobody", launch="20261124-140000-ef56")
    if case.provisioner.role is None:
        stranger = Instance(name="nobody", launch=stranger.launch, folder=Path("/nonexistent"))
    assert not case.provisioner.states([stranger])["nobody"].alive


def test_no_module_outside_of_a_clouds_own_asks_which_cloud_it_is() -> None:
    asks = re.compile(r"""\b(if|and|or|not|elif|while)\b.*[=!]= ?["'](aws|gcp)["']""")
    assert asks.search('    if kind == "aws":')
    own = re.compile(
        r"provisioners/envboot_provisioners/(aws|gcp)/|bootstrap/envboot/agent/"
        r"|bootstrap/envboot/cli/commands/(aws|gcp)\.py"
    )
    found = []
    for folder in ("bootstrap", "provisioners"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if own.match(name):
                continue
            lines = path.read_text("utf-8").splitlines()
            found += [f"{name}: {line.strip()}" for line in lines if asks.search(line)]
    assert found == []
