"""What EC2 is asked for, judged by the model of its service that botocore has."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from envboot.errors import ProvisionError
from envboot_provisioners.aws.request import (
    compose_run,
    compose_template,
    encode_user_data,
    find_root_size,
)
from envboot_provisioners.clouds import GIB
from tests.provisioners.aws.plans import LAUNCH, PLACES, USER_DATA, make_attempt, make_plan

EVERYTHING: dict[str, Any] = {
    "security_group": ("web",),
    "public_ip": "yes",
    "instance_profile": "machines",
    "key": "mine",
    "spot": "true",
    "max_price": "0.25",
    "placement": "close",
    "tag": ("team=trading",),
}


@pytest.fixture(scope="module")
def model() -> Any:
    """EC2's service model."""
    return botocore.session.get_session().get_service_model("ec2")


def run(market: str = "on-demand", *, room: int = 0, **options: Any) -> dict[str, Any]:
    groups = ("sg-1",) if "security_group" in options else ()
    plan = make_plan(groups=groups, **options)
    return compose_run(plan, make_attempt(market), launch=LAUNCH, user_data=USER_DATA, room=room)


def template(*, places: Any = PLACES, **options: Any) -> dict[str, Any]:
    groups = ("sg-1",) if "security_group" in options else ()
    plan = make_plan(groups=groups, places=places, **options)
    return compose_template(plan, name="fleet", user_data="eA==", room=0)


@pytest.mark.parametrize("options", [{}, EVERYTHING])
@pytest.mark.parametrize("market", ["on-demand", "spot"])
def test_the_service_knows_every_member(model: Any, options: dict[str, Any], market: str) -> None:
    shape = model.operation_model("RunInstances").input_shape
    # boto3 encodes user-data before it looks.
    arguments = {**run(market, **options), "UserData": "eA=="}
    report = ParamValidator().validate(arguments, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"subnet": ("subnet-00000001",)}])
def test_the_service_knows_every_member_of_a_template(model: Any, options: dict[str, Any]) -> None:
    shape = model.shape_for("RequestLaunchTemplateData")
    report = ParamValidator().validate(template(places=PLACES[:1], **options), shape)
    assert not report.has_errors(), report.generate_report()


def test_machines_and_templates_take_version_2_of_the_metadata_service_only() -> None:
    for data in (run(), run("spot", **EVERYTHING), template(), template(**EVERYTHING)):
        assert data["MetadataOptions"] == {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        }
        assert data["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_the_disk_is_encrypted_and_goes_with_the_machine() -> None:
    for data in (run(), template()):
        assert data["BlockDeviceMappings"] == [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {
                    "VolumeSize": 15,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ]


@pytest.mark.parametrize(
    ("image", "room", "wanted"),
    [(2, 0, 8), (2, 1, 8), (2, 6 * GIB + 1, 9), (15, 0, 15), (15, 1, 16), (15, 20 * GIB, 35)],
)
def test_the_disk_holds_the_image_and_the_environment(image: int, room: int, wanted: int) -> None:
    plan = make_plan()
    plan = replace(plan, image=replace(plan.image, size=image))
    assert find_root_size(plan, room) == wanted


def test_a_size_that_was_given_counts_unless_the_image_is_larger() -> None:
    assert find_root_size(make_plan(root_size="20"), 100 * GIB) == 20
    with pytest.raises(ProvisionError, match=r"`root-size` of at least 15 GiB.*found 10"):
        find_root_size(make_plan(root_size="10"), 0)


def test_everything_that_costs_is_tagged() -> None:
    kinds = {item["ResourceType"]: item["Tags"] for item in run(**EVERYTHING)["TagSpecifications"]}
    assert set(kinds) == {"instance", "volume", "network-interface"}
    tags = {tag["Key"]: tag["Value"] for tag in kinds["volume"]}
    assert tags == {"Name": f"envboot-{LAUNCH}", "team": "trading", "envboot:launch": LAUNCH}
    assert kinds["instance"] == kinds["volume"] == kinds["network-interface"]
    spot = {item["ResourceType"] for item in run("spot", **EVERYTHING)["TagSpecifications"]}
    assert spot - set(kinds) == {"spot-instances-request"}


def test_spot_instances_end_when_they_are_interrupted() -> None:
    options = run("spot", spot="true", max_price="0.25")["InstanceMarketOptions"]
    assert options == {
        "MarketType": "spot",
        "SpotOptions": {
            "SpotInstanceType": "one-time",
            "InstanceInterruptionBehavior": "terminate",
            "MaxPrice": "0.25",
        },
    }
    assert "MaxPrice" not in run("spot", spot="true")["InstanceMarketOptions"]["SpotOptions"]
    assert "InstanceMarketOptions" not in run("on-demand", spot="true")
    assert template(spot="true")["InstanceMarketOptions"]["MarketType"] == "spot"


def test_the_subnet_and_the_groups_stand_where_ec2_wants_them() -> None:
    plain = run(security_group=("web",))
    assert (plain["SubnetId"], plain["SecurityGroupIds"]) == ("subnet-00000001", ["sg-1"])
    public = run(security_group=("web",), public_ip="no")
    assert public["NetworkInterfaces"] == [
        {
            "DeviceIndex": 0,
            "DeleteOnTermination": True,
            "SubnetId": "subnet-00000001",
            "Groups": ["sg-1"],
            "AssociatePublicIpAddress": False,
        }
    ]
    # EC2 refuses them in two places at once.
    assert not {"SubnetId", "SecurityGroupIds"} & public.keys()


def test_a_template_leaves_the_choice_among_subnets_and_zones_to_its_user() -> None:
    assert "NetworkInterfaces" not in template()
    assert template(security_group=("web",))["SecurityGroupIds"] == ["sg-1"]
    both = template(subnet=("subnet-00000001", "subnet-00000002"), security_group=("web",))
    assert "NetworkInterfaces" not in both
    one = template(places=PLACES[:1], subnet=("subnet-00000001",), security_group=("web",))
    assert one["NetworkInterfaces"][0]["SubnetId"] == "subnet-00000001"
    assert one["NetworkInterfaces"][0]["Groups"] == ["sg-1"]
    assert not {"SubnetId", "SecurityGroupIds"} & one.keys()
    zone = template(places=PLACES[:1], zone=("us-east-1a",))
    assert zone["Placement"] == {"AvailabilityZone": "us-east-1a"}


def test_a_profile_goes_by_its_name_or_its_arn() -> None:
    arn = "arn:aws:iam::123456789012:instance-profile/path/machines"
    assert run(instance_profile="machines")["IamInstanceProfile"] == {"Name": "machines"}
    assert run(instance_profile=arn)["IamInstanceProfile"] == {"Arn": arn}


def test_the_token_is_the_same_for_the_same_call_and_another_for_the_next() -> None:
    plan = make_plan()
    tokens = [
        compose_run(
            plan,
            make_attempt(number=number),
            launch=launch,
            user_data=USER_DATA,
            room=0,
            first=first,
        )["ClientToken"]
        for number, launch, first in (
            *((1, "a", 0), (1, "a", 0), (2, "a", 0), (1, "b", 0)),
            *((1, "a", 1), (1, "a", 11), (2, "a", 1)),
        )
    ]
    assert tokens[0] == tokens[1] == hashlib.sha256(b"a/1").hexdigest()
    assert len(set(tokens)) == 6
    assert all(len(token) <= 64 and token.isascii() for token in tokens)


def test_user_data_of_machines_is_raw_and_of_templates_encoded_once() -> None:
    assert run()["UserData"] == USER_DATA
    encoded = base64.b64encode(USER_DATA)
    assert base64.b64decode(encode_user_data(encoded, "base64")) == USER_DATA
    assert base64.b64decode(encode_user_data(USER_DATA, None)) == USER_DATA
