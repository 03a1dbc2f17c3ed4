"""How instances are, what they print, which there are, and their end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from envboot.errors import ProvisionError
from envboot_provisioners import Instance
from envboot_provisioners.aws import AwsProvisioner
from envboot_provisioners.aws.machines import to_instance, to_state
from envboot_provisioners.cloud_records import FRESH, CloudRecords
from tests.provisioners.aws.plans import LAUNCH, make_request
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ec2 import Ec2

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

OTHER = "20260101-000000-ffff"
GONE = Instance(name="i-0123456789abcdef0", launch=LAUNCH, details={"region": "us-east-1"})


def test_a_machine_runs_and_then_it_does_not(ec2: Ec2, aws: AwsProvisioner) -> None:
    made = aws.start(make_request(count=2))
    states = aws.states(made)
    assert [(state.alive, state.word) for state in states.values()] == [(True, "running")] * 2
    ec2.client().stop_instances(InstanceIds=[made[0].name])
    states = aws.states(made)
    assert (states[made[0].name].alive, states[made[0].name].word) == (False, "stopped")
    # It still costs.
    assert {instance.name for instance in aws.instances()} == {item.name for item in made}
    aws.terminate(made)
    state = aws.states(made)[made[0].name]
    assert (state.alive, state.word) == (False, "terminated")
    assert "User initiated" in str(state.reason)


def test_only_one_with_a_role_has_a_name_in_policies() -> None:
    arn = "arn:aws-cn:iam::111122223333:instance-profile/team/machine"
    found = {"InstanceId": "i-0", "IamInstanceProfile": {"Arn": arn, "Id": "AIPA0"}}
    made = to_instance(found, launch=LAUNCH, region="cn-north-1")
    assert made.identity == "arn:aws-cn:ec2:cn-north-1:111122223333:instance/i-0"
    assert to_instance({"InstanceId": "i-0"}, launch=LAUNCH, region="cn-north-1").identity is None


def test_one_that_ec2_has_forgotten_has_ended(ec2: Ec2, aws: AwsProvisioner) -> None:
    assert not aws.states([GONE])[GONE.name].alive
    aws.terminate([GONE])


def test_one_that_ec2_does_not_show_yet_is_about_to_run(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.start(make_request())
    monkeypatch.setitem(aws._fresh._since, GONE.name, time.monotonic())
    assert aws.states([GONE])[GONE.name].word == "pending"
    assert not AwsProvisioner(make_session()).states([GONE])[GONE.name].alive


def test_all_states_take_one_question_a_hundred(ec2: Ec2, aws: AwsProvisioner) -> None:
    made = aws.start(make_request(count=120))
    before = len(ec2.actions("DescribeInstances"))
    assert len(aws.states(made)) == 120
    # moto shows a hundred reservations a page; these are two.
    assert len(ec2.actions("DescribeInstances")) - before == 2


def test_why_a_machine_ended_is_told() -> None:
    told = {
        "State": {"Name": "terminated"},
        "StateReason": {
            "Code": "Server.SpotInstanceTermination",
            "Message": "Server.SpotInstanceTermination: Spot instance termination",
        },
    }
    assert to_state(told).reason == (
        "Server.SpotInstanceTermination: Spot instance termination "
        "(EC2 wanted the spot instance back)"
    )
    assert to_state(
        {"State": {"Name": "stopped"}, "StateTransitionReason": "User initiated"}
    ).reason == ("User initiated")
    assert to_state({"State": {"Name": "running"}, "StateTransitionReason": ""}).reason is None


def test_the_newest_console_is_read_and_an_older_one_where_there_is_no_other(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    (made,) = aws.start(make_request())
    assert aws.console(made).startswith("Linux version")
    assert ec2.actions("GetConsoleOutput")[-1]["Latest"] == "true"
    ec2.strike("GetConsoleOutput", "UnsupportedOperation")
    assert aws.console(made).startswith("Linux version")
    assert "Latest" not in ec2.actions("GetConsoleOutput")[-1]
    with pytest.raises(ProvisionError, match=f"Failed to read the console of `{GONE.name}`"):
        aws.console(GONE)


def test_instances_of_this_machine_are_those_on_record(
    ec2: Ec2, aws: AwsProvisioner, tmp_path: Path
) -> None:
    assert aws.instances() == []
    assert ec2.requests == []
    made = aws.start(make_request(count=2))
    AwsProvisioner(make_session(state=tmp_path / "elsewhere")).start(make_request(OTHER))
    assert {item.name for item in aws.instances()} == {item.name for item in made}
    (there,) = AwsProvisioner(make_session(state=tmp_path / "third")).instances(OTHER)
    assert (there.launch, there.details["region"]) == (OTHER, "us-east-1")


def test_a_launch_that_is_nowhere_is_none_where_aws_is_not_set_up(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aws.instances(OTHER) == []
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert AwsProvisioner(make_session()).instances(OTHER) == []
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert AwsProvisioner(make_session()).instances(OTHER) == []


def test_each_launch_is_looked_for_in_its_own_region(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = aws.start(make_request(region="eu-west-1"))
    aws.start(make_request(OTHER))
    assert {item.details["region"] for item in aws.instances()} == {"eu-west-1", "us-east-1"}
    later = AwsProvisioner(make_session(state=aws._records._folder.parent))
    (found,) = later.instances(LAUNCH)
    assert found.name == made.name
    assert later.states([found])[found.name].alive
    later.terminate(later.instances())
    assert later.instances() == []


def age(records: CloudRecords, launch: str, seconds: float) -> None:
    file = records._folder / f"{launch}.json"
    os.utime(file, (time.time() - seconds,) * 2)


def test_a_record_goes_when_all_has_ended_and_this_account_can_tell(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    made = aws.start(make_request(count=2))
    aws.terminate(made[:1])
    assert aws._records.find(LAUNCH)
    aws.terminate(made[1:])
    assert not aws._records.find(LAUNCH)
    # Those whose machines ended by themselves go later, and not by the word of another account.
    for launch, account in ((LAUNCH, "123456789012"), (OTHER, "210987654321"), ("third", None)):
        aws._records.write(launch, "us-east-1", account)
    assert aws.instances() == []
    assert len(aws._records.all()) == 3
    for launch in (LAUNCH, OTHER, "third"):
        age(aws._records, launch, FRESH + 5)
    aws.instances()
    assert [record.launch for record in aws._records.all()] == [OTHER, "third"]


def test_damaged_records_and_names_that_are_paths_are_none(tmp_path: Path) -> None:
    records = CloudRecords(tmp_path, "region")
    records.write(LAUNCH, "us-east-1")
    for name, text in (("a", "{"), ("b", "[]"), ("c", "{}"), ("d", "null")):
        (tmp_path / f"{name}.json").write_text(text)
    assert [record.launch for record in records.all()] == [LAUNCH]
    assert records.find("../secret") is None
    assert (tmp_path / f"{LAUNCH}.json").stat().st_mode & 0o077 == 0


def test_every_instance_that_could_not_be_ended_is_named_with_the_command_for_it(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    made = aws.start(make_request(count=130))
    ec2.strike(
        "TerminateInstances",
        "UnauthorizedOperation",
        status=403,
        message="You may not",
        times=99,
        where=made[0].name,
    )
    ec2.strike("TerminateInstances", "RequestExpired", times=99, where=made[120].name)
    with pytest.raises(ProvisionError) as caught:
        aws.terminate(made)
    error = caught.value
    # Of the first hundred, one was refused, and then asked for alone; the rest share a clock.
    failed = [made[0].name, *(item.name for item in made[100:])]
    assert error.message == "Failed to end 31 of 130 instances on EC2, which cost on"
    assert error.causes[0] == f"`{made[0].name}`: UnauthorizedOperation: You may not"
    assert all(f"`{name}`" in error.causes[1] for name in failed[1:])
    assert error.hint == (
        "End them by hand: `aws ec2 terminate-instances --region us-east-1 --instance-ids "
        + " ".join(failed)
        + "`; allow this identity `ec2:TerminateInstances`"
    )
    assert {item["InstanceId"] for item in ec2.alive(LAUNCH)} == set(failed)
    assert aws._records.find(LAUNCH)
    ec2.faults.clear()
    aws.terminate(aws.instances())
    assert ec2.alive(LAUNCH) == []


def test_one_that_is_protected_does_not_save_the_others(ec2: Ec2, aws: AwsProvisioner) -> None:
    made = aws.start(make_request(count=3))
    ec2.client().modify_instance_attribute(
        InstanceId=made[1].name, DisableApiTermination={"Value": True}
    )
    with pytest.raises(ProvisionError, match="Failed to end 1 of 3 instances"):
        aws.terminate(made)
    assert [item["InstanceId"] for item in ec2.alive(LAUNCH)] == [made[1].name]


def test_unknown_ones_among_others_are_passed_over(ec2: Ec2, aws: AwsProvisioner) -> None:
    made = aws.start(make_request(count=2))
    aws.terminate([made[0], GONE, made[1]])
    assert ec2.alive(LAUNCH) == []


def test_one_that_ec2_does_not_know_yet_is_ended_a_moment_later(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    (made,) = aws.start(make_request())
    message = f"The instance ID '{made.name}' does not exist"
    ec2.strike("TerminateInstances", "InvalidInstanceID.NotFound", message=message, times=2)
    aws.terminate([made])
    assert ec2.alive(LAUNCH) == []
    assert len(ec2.actions("TerminateInstances")) == 3


def test_what_was_started_is_ended_when_that_fails_too_both_are_told(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    ec2.strike("RunInstances", "VcpuLimitExceeded", where="MaxCount=1&")
    ec2.strike("TerminateInstances", "AuthFailure", times=99)
    ec2.capacity |= dict.fromkeys(ec2.subnets(), 2)
    with pytest.raises(ProvisionError, match="Failed to end 2 of 2 instances on EC2") as caught:
        aws.start(make_request(count=3))
    why = "Ended because of: Failed to start 3 `m6i.large` on EC2: only 2 could be had"
    assert caught.value.causes[1] == why
    assert "VcpuLimitExceeded" in caught.value.causes[-2]
    left = {item["InstanceId"] for item in ec2.alive(LAUNCH)}
    assert all(name in str(caught.value.hint) for name in left)
    assert len(left) == 2
    ec2.faults.clear()
    aws.terminate(aws.instances())
