"""A launch looked at with another region, other credentials, or none: never said to be gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from envboot.cli import cli, run
from envboot.errors import Exit, UnseenError
from envboot.fleet.history import Record, write_record
from envboot.store.local.store import LocalStore
from envboot_provisioners.aws import AwsProvisioner
from tests.provisioners.aws.plans import LAUNCH, make_request
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot_provisioners import Instance
    from tests.ec2 import Ec2

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

REGION = "eu-west-1"
ACCOUNT = "123456789012"


class Launched:
    """Two machines in a region that is not the shell's, and the bucket of their launch."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        aws = AwsProvisioner(make_session(state=folder / "there"))
        request = make_request(count=2, region=REGION)
        self.place = aws.place(request.options)
        self.instances: list[Instance] = aws.start(request)
        self.url = f"file://{folder}/bucket"
        self._capsys = capsys
        self.write()

    def write(self, **members: object) -> None:
        """Write the launch's record as machines may write it, too."""
        about = {
            "environment": "sha256:" + "1" * 64,
            "base": "sha256:" + "2" * 64,
            "provisioner": "aws",
            "count": 2,
            "command": ["true"],
            "place": self.place,
            **members,
        }
        with LocalStore(self.url) as store:
            store.delete(f"reports/{LAUNCH}/launch.json")
            store.create(f"reports/{LAUNCH}/launch.json", json.dumps(about).encode())
            for instance in self.instances:
                key = f"reports/{LAUNCH}/events/{instance.name}/1764000000000-started.json"
                store.create(key, b"{}")

    def run(self, *words: str, code: int = Exit.OK) -> tuple[str, str]:
        """Run a command here; returns what it printed."""
        assert run(cli, [*words, "--store", self.url], "envboot") == code, self._capsys.readouterr()
        seen = self._capsys.readouterr()
        return seen.out, seen.err

    def refuse(self) -> str:
        """Look in every way, each of which must fail; returns what was printed of the last."""
        for words in (["status", LAUNCH], ["wait", LAUNCH], ["terminate", LAUNCH]):
            out, err = self.run(*words, code=Exit.PROVISION)
            assert f"Instances of `{LAUNCH}` cannot be seen from here" in err
            assert "left" not in err
            assert "terminated" not in out
        return err


@pytest.fixture
def launched(ec2: Ec2, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Launched:
    return Launched(tmp_path, capsys)


def test_the_record_says_account_region_and_zones(launched: Launched) -> None:
    assert launched.place["account"] == ACCOUNT
    assert launched.place["region"] == REGION
    assert launched.place["zones"].startswith(f"{REGION}a, ")


def test_another_region_of_the_shell_hides_nothing(launched: Launched, ec2: Ec2) -> None:
    document = json.loads(launched.run("status", LAUNCH, "--json")[0])
    assert [each["platform_state"] for each in document["instances"]] == ["running"] * 2
    assert document["place"] == launched.place
    assert document["unseen"] is None
    out, err = launched.run("terminate", LAUNCH)
    assert (out, err.count("ended i-")) == ("", 2)
    states = [each["platform_state"] for each in _look(launched)]
    assert states == ["terminated"] * 2
    # Seen to be gone, in the account and the region where it was.
    assert launched.run("terminate", LAUNCH)[1] == f"nothing of {LAUNCH} is left\n"


def _look(launched: Launched) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(launched.run("status", LAUNCH, "--json")[0])[
        "instances"
    ]
    return found


def test_one_instance_that_is_ended_is_not_the_end_of_the_launch(launched: Launched) -> None:
    launched.run("terminate", launched.instances[0].name)
    document = json.loads(launched.run("status", LAUNCH, "--json")[0])
    assert document["end"] is None
    states = {each["name"]: each["platform_state"] for each in document["instances"]}
    assert states[launched.instances[1].name] == "running"


def test_another_account_sees_nothing_and_says_so(
    launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched.write(place={**launched.place, "account": "999999999999", "region": "us-west-2"})
    err = launched.refuse()
    assert f"They are in account 999999999999, `us-west-2`; this is account {ACCOUNT}" in err
    assert "Set `AWS_PROFILE` to one of account 999999999999" in err


def test_without_credentials_nothing_is_said_to_be_gone(
    launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    launched.refuse()


@pytest.mark.parametrize(
    "place", [{}, {"region": "us-east-1"}, {"account": ACCOUNT}, {"region": "x\x1b[2J/"}]
)
def test_a_record_that_machines_have_changed_hides_nothing(
    launched: Launched, place: dict[str, str] | None
) -> None:
    launched.write(place=place)
    assert "\x1b" not in launched.refuse()


def test_what_this_machine_has_on_record_counts_more_than_the_bucket(
    launched: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(launch=LAUNCH, provisioner="aws", store=launched.url, place=launched.place)
    write_record(tmp_path / "mine", record)
    launched.write(place={**launched.place, "region": "us-west-2"})
    monkeypatch.setenv("ENVBOOT_STATE_DIR", str(tmp_path / "mine"))
    assert [each["platform_state"] for each in _look(launched)] == ["running"] * 2


def test_what_can_be_seen_is_ended_beside_what_cannot(launched: Launched) -> None:
    words = ("terminate", "20200101-000000-abcd", LAUNCH)
    _, err = launched.run(*words, code=Exit.USAGE)
    assert err.count("ended i-") == 2
    assert "Unknown launch `20200101-000000-abcd`" in err


def test_a_place_that_is_empty_is_none(ec2: Ec2, aws: AwsProvisioner) -> None:
    with pytest.raises(UnseenError, match="cannot be seen from here"):
        aws.instances(LAUNCH, {})
    assert aws.instances(LAUNCH, {"account": ACCOUNT, "region": REGION}) == []
