"""What was asked for is what EC2 holds; and all instances or none, wherever there is room."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import ProvisionError
from envboot_provisioners.aws import AwsProvisioner
from tests.provisioners.aws.plans import LAUNCH, USER_DATA, make_request
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ec2 import Ec2

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

OTHER = "20260101-000000-ffff"


def fail(aws: AwsProvisioner, ec2: Ec2, **request: Any) -> ProvisionError:
    """Start what cannot be started, and see that nothing is left of it."""
    with pytest.raises(ProvisionError) as caught:
        aws.start(make_request(**request))
    launch = request.get("launch", LAUNCH)
    assert ec2.alive(launch) == []
    assert aws.instances(launch) == []
    assert launch not in {instance.launch for instance in aws.instances()}
    return caught.value


def places(ec2: Ec2) -> list[str]:
    """Return the subnets of all calls that were to start something."""
    return [found["SubnetId"] for found in ec2.actions("RunInstances")]


class TestOptions:
    """Every option lands."""

    def test_in_what_ec2_holds(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        client = ec2.client()
        client.create_key_pair(KeyName="mine")
        ec2.make_profile("machines")
        subnet = ec2.subnets()[1]
        vpc = client.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
        group = client.create_security_group(GroupName="web", Description="x", VpcId=vpc)
        (instance,) = aws.start(
            make_request(
                instance_type="m6g.large",
                image="debian",
                subnet=(subnet,),
                zone=("us-east-1b",),
                security_group=("web",),
                key="mine",
                instance_profile="machines",
                root_size="40",
                tag=("team=trading",),
            )
        )
        (found,) = ec2.alive(LAUNCH)
        assert found["InstanceId"] == instance.name
        assert (found["InstanceType"], found["ImageId"]) == (
            "m6g.large",
            "ami-00000000000000012b",
        )
        assert (found["SubnetId"], found["KeyName"]) == (subnet, "mine")
        assert [item["GroupId"] for item in found["SecurityGroups"]] == [group["GroupId"]]
        assert found["IamInstanceProfile"]["Arn"].endswith("instance-profile/machines")
        assert found["MetadataOptions"]["HttpTokens"] == "required"
        assert found["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
        wanted = {"Name": f"envboot-{LAUNCH}", "envboot:launch": LAUNCH, "team": "trading"}
        assert tags == wanted
        disk = found["BlockDeviceMappings"][0]["Ebs"]
        assert disk["DeleteOnTermination"]
        (volume,) = client.describe_volumes(VolumeIds=[disk["VolumeId"]])["Volumes"]
        assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (40, "gp3", True)
        assert {tag["Key"]: tag["Value"] for tag in volume["Tags"]} == wanted
        assert instance.details == {
            "type": "m6g.large",
            "zone": "us-east-1b",
            "market": "on-demand",
            "address": found["PublicIpAddress"],
            "region": "us-east-1",
        }

    def test_that_moto_does_not_keep_in_what_it_is_asked(
        self, ec2: Ec2, aws: AwsProvisioner
    ) -> None:
        ec2.placement_groups["close"] = "cluster"
        aws.start(
            make_request(spot_only="true", max_price="0.25", placement="close", public_ip="no")
        )
        (asked,) = ec2.actions("RunInstances")
        spot = "InstanceMarketOptions.SpotOptions"
        assert asked["InstanceMarketOptions.MarketType"] == "spot"
        assert asked[f"{spot}.MaxPrice"] == "0.25"
        assert asked[f"{spot}.InstanceInterruptionBehavior"] == "terminate"
        assert asked["Placement.GroupName"] == "close"
        assert asked["NetworkInterface.1.AssociatePublicIpAddress"] == "false"
        assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"

    def test_with_user_data_byte_for_byte(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        (instance,) = aws.start(make_request())
        held = ec2.client().describe_instance_attribute(
            InstanceId=instance.name, Attribute="userData"
        )
        assert base64.b64decode(held["UserData"]["Value"]) == USER_DATA

    def test_and_the_disk_has_room_for_the_environment(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        aws.start(make_request(room=20 << 30))
        (asked,) = ec2.actions("RunInstances")
        assert asked["BlockDeviceMapping.1.Ebs.VolumeSize"] == "35"


def test_many_start_in_one_zone_in_several_calls(ec2: Ec2, aws: AwsProvisioner) -> None:
    made = aws.start(make_request(count=230))
    assert len({instance.name for instance in made}) == len(ec2.alive(LAUNCH)) == 230
    assert [found["MaxCount"] for found in ec2.actions("RunInstances")] == ["100", "100", "30"]
    assert len(set(places(ec2))) == 1
    aws.terminate(made)
    assert ec2.alive(LAUNCH) == []
    assert len(ec2.actions("TerminateInstances")) == 3


class TestCapacity:
    """Where one place has no room, others may."""

    def test_another_zone_is_asked(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        first, second, *_ = ec2.subnets()
        ec2.capacity[first] = 2
        made = aws.start(make_request(count=3))
        assert {instance.details["zone"] for instance in made} == {"us-east-1b"}
        # Each is asked once: the service says with status 500 that it has no room.
        assert places(ec2) == [first, second]

    def test_they_are_spread_where_no_zone_has_room_for_all(
        self, ec2: Ec2, aws: AwsProvisioner
    ) -> None:
        ec2.capacity |= dict.fromkeys(ec2.subnets(), 1)
        ec2.capacity[ec2.subnets()[1]] = 2
        made = aws.start(make_request(count=4))
        zones = sorted(instance.details["zone"][-1] for instance in made)
        assert zones == ["a", "b", "b", "c"]
        assert len(ec2.alive(LAUNCH)) == 4

    def test_every_instance_or_none(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        ec2.capacity |= dict.fromkeys(ec2.subnets(), 1)
        error = fail(aws, ec2, count=9)
        assert error.message == "Failed to start 9 `m6i.large` on EC2: only 5 could be had"
        assert len(error.causes) == 5
        assert error.causes[0].startswith(
            "`us-east-1a`, on-demand: InsufficientInstanceCapacity: We currently"
        )
        assert "more zones" in str(error.hint)
        assert not aws._records.all()

    def test_a_placement_group_that_wants_them_close_is_never_spread(
        self, ec2: Ec2, aws: AwsProvisioner
    ) -> None:
        ec2.placement_groups["close"] = "cluster"
        ec2.capacity |= dict.fromkeys(ec2.subnets(), 149)
        fail(aws, ec2, count=150, placement="close")
        assert {found["MinCount"] for found in ec2.actions("RunInstances")} == {"150"}
        ec2.capacity[ec2.subnets()[2]] = 150
        made = aws.start(make_request(OTHER, count=150, placement="close"))
        assert {instance.details["zone"] for instance in made} == {"us-east-1c"}

    def test_only_subnets_that_were_given_are_asked(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        third = ec2.subnets()[2]
        ec2.capacity[third] = 0
        fail(aws, ec2, subnet=(third,))
        assert set(places(ec2)) == {third}

    @pytest.mark.parametrize(
        "code",
        [
            "InsufficientFreeAddressesInSubnet",
            "Unsupported",
            "UnfulfillableCapacity",
            "SpotMaxPriceTooLow",
        ],
    )
    def test_what_is_about_one_zone_leads_to_the_next(
        self, ec2: Ec2, aws: AwsProvisioner, code: str
    ) -> None:
        ec2.strike("RunInstances", code)
        (made,) = aws.start(make_request())
        assert made.details["zone"] == "us-east-1b"


class TestSpot:
    """Spot instances where there are some."""

    def test_are_preferred_in_any_zone_and_on_demand_ones_come_in_their_place(
        self, ec2: Ec2, aws: AwsProvisioner
    ) -> None:
        ec2.strike(
            "RunInstances",
            "InsufficientInstanceCapacity",
            status=500,
            times=5,
            where="MarketType=spot",
        )
        aws.start(make_request(spot="true", max_price="0.25"))
        markets = ["InstanceMarketOptions.MarketType" in x for x in ec2.actions("RunInstances")]
        assert markets == [True] * 5 + [False]
        assert "InstanceMarketOptions.SpotOptions.MaxPrice" not in ec2.actions("RunInstances")[-1]

    def test_alone_are_never_replaced(self, ec2: Ec2, aws: AwsProvisioner) -> None:
        ec2.strike("RunInstances", "SpotMaxPriceTooLow", times=99)
        error = fail(aws, ec2, spot_only="true")
        assert len(ec2.actions("RunInstances")) == 5
        assert "--max-price" in str(error.hint)

    def test_beyond_the_quota_are_not_asked_for_in_other_zones(
        self, ec2: Ec2, aws: AwsProvisioner
    ) -> None:
        ec2.strike("RunInstances", "MaxSpotInstanceCountExceeded", where="MarketType=spot")
        aws.start(make_request(spot="true"))
        assert len(ec2.actions("RunInstances")) == 2
        ec2.strike("RunInstances", "MaxSpotInstanceCountExceeded", times=9)
        error = fail(AwsProvisioner(make_session()), ec2, launch=OTHER, spot_only="true")
        assert "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests" in error.causes[-1]


def test_a_quota_is_explained_by_its_name(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.strike("RunInstances", "VcpuLimitExceeded", message="You have requested more vCPU")
    error = fail(aws, ec2, instance_type="g5.xlarge")
    assert error.causes == (
        "`us-east-1a`, on-demand: VcpuLimitExceeded: You have requested more vCPU",
        "The quota is `Running On-Demand G and VT instances` (L-DB2E81BA) in `us-east-1`, in vCPUs",
    )
    assert len(ec2.actions("RunInstances")) == 1


@pytest.mark.parametrize("code", ["PendingVerification", "OptInRequired", "Blocked", "AuthFailure"])
def test_what_no_zone_can_help_is_said_at_once(ec2: Ec2, aws: AwsProvisioner, code: str) -> None:
    ec2.strike("RunInstances", code)
    error = fail(aws, ec2)
    assert error.hint
    assert len(ec2.actions("RunInstances")) == 1


def test_what_was_started_before_a_refusal_is_ended(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.strike("RunInstances", "UnauthorizedOperation", status=403, where="MaxCount=50")
    error = fail(aws, ec2, count=150)
    assert "ec2:RunInstances" in str(error.hint)
    assert len(ec2.tokens) == 1


class TestAnswers:
    """A call that is repeated starts nothing twice."""

    @pytest.mark.parametrize("what", ["lose the answer", "hang up"])
    def test_one_that_is_lost_is_asked_for_again(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None, what: str
    ) -> None:
        ec2.strike("RunInstances", what, times=2)
        made = aws.start(make_request(count=3))
        assert len(ec2.actions("RunInstances")) == 3
        assert len({found["ClientToken"] for found in ec2.actions("RunInstances")}) == 1
        alive = {found["InstanceId"] for found in ec2.alive(LAUNCH)}
        assert alive == {instance.name for instance in made}
        assert len(made) == 3

    @pytest.mark.parametrize(
        ("code", "status"),
        [("RequestLimitExceeded", 503), ("InternalError", 500), ("Unavailable", 503)],
    )
    def test_a_busy_service_is_asked_again(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None, code: str, status: int
    ) -> None:
        ec2.strike("RunInstances", code, status=status, times=4)
        assert len(aws.start(make_request(count=2))) == 2
        assert len(ec2.alive(LAUNCH)) == 2

    def test_a_new_instance_profile_is_waited_for(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None
    ) -> None:
        ec2.make_profile("machines")
        message = "Value (machines) for parameter iamInstanceProfile.name is invalid"
        ec2.strike("RunInstances", "InvalidParameterValue", times=3, message=message)
        assert aws.start(make_request(instance_profile="machines"))
        ec2.strike("RunInstances", "InvalidParameterValue", times=1, message="Bad KmsKeyId")
        assert "Bad KmsKeyId" in fail(AwsProvisioner(make_session()), ec2, launch=OTHER).causes[0]

    def test_what_was_started_unanswered_is_found_by_its_tag_and_ended(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None
    ) -> None:
        ec2.strike("RunInstances", "lose the answer", times=99)
        error = fail(aws, ec2, count=3)
        assert error.message == "Failed to start 3 `m6i.large` on EC2"
        (ended,) = ec2.actions("TerminateInstances")
        assert "InstanceId.3" in ended

    def test_what_earlier_calls_for_the_launch_have_started_runs_on(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None
    ) -> None:
        first = {instance.name for instance in aws.start(make_request(count=2))}
        ec2.strike("RunInstances", "lose the answer", times=99)
        with pytest.raises(ProvisionError, match="Failed to start 3"):
            aws.start(make_request(count=3, first=2))
        assert {found["InstanceId"] for found in ec2.alive(LAUNCH)} == first
        assert {instance.name for instance in aws.instances()} == first
        # Another process, and a launch of which it has not seen the start.
        other = AwsProvisioner(make_session(state=aws._records._folder.parent))
        with pytest.raises(ProvisionError, match="Failed to start 1"):
            other.start(make_request(first=5))
        assert {found["InstanceId"] for found in ec2.alive(LAUNCH)} == first

    def test_one_that_was_lost_and_then_refused_may_have_started_all_the_same(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None
    ) -> None:
        ec2.strike("RunInstances", "lose the answer", times=1)
        ec2.strike("RunInstances", "InsufficientInstanceCapacity", status=500, times=1)
        made = aws.start(make_request(count=2))
        assert {instance.details["zone"] for instance in made} == {"us-east-1b"}
        alive = {found["InstanceId"] for found in ec2.alive(LAUNCH)}
        assert alive == {instance.name for instance in made}

    def test_nothing_is_looked_for_where_nothing_can_have_started(
        self, ec2: Ec2, aws: AwsProvisioner
    ) -> None:
        ec2.strike("RunInstances", "InvalidParameterValue")
        fail(aws, ec2)
        assert not ec2.actions("TerminateInstances")

    def test_where_ec2_cannot_even_be_asked_the_launch_stays_on_record(
        self, ec2: Ec2, aws: AwsProvisioner, no_pauses: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ec2.strike("RunInstances", "lose the answer", times=99)
        ec2.strike("DescribeInstances", "UnauthorizedOperation", status=403, times=1)
        with pytest.raises(ProvisionError, match=f"what launch `{LAUNCH}` has started") as caught:
            aws.start(make_request(count=2))
        assert f"envboot terminate {LAUNCH}" in str(caught.value.hint)
        assert any("Failed to start 2" in cause for cause in caught.value.causes)
        # Any later process finds and ends them.
        later = AwsProvisioner(make_session(state=aws._records._folder.parent))
        found = later.instances()
        assert len(found) == 2
        later.terminate(found)
        assert not ec2.alive(LAUNCH)
        assert not later.instances()


def test_the_record_is_there_before_anything_is_started(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("envboot_provisioners.aws.settling.SETTLE", 0)
    seen = []
    clients = aws.find_clients()

    def look(**_: Any) -> None:
        record = tmp_path / f"state/aws/{LAUNCH}.json"
        seen.append(json.loads(record.read_text()))
        raise KeyboardInterrupt

    clients.starting.meta.events.register("before-call.ec2.RunInstances", look)
    with pytest.raises(KeyboardInterrupt):
        aws.start(make_request())
    assert seen == [{"region": "us-east-1"}]
