"""What a spec becomes in its region, and everything that could never start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import ProvisionError
from envboot_provisioners.aws import AwsProvisioner
from envboot_provisioners.aws.lookup import find_parameter
from envboot_provisioners.aws.options import IMAGES
from tests.ec2 import PARAMETERS
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ec2 import Ec2

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

WINDOWS = "ami-00000000000000ffff"


def refuse(aws: AwsProvisioner, *, by_role: bool = False, **options: Any) -> ProvisionError:
    with pytest.raises(ProvisionError) as caught:
        aws.check({key.replace("_", "-"): value for key, value in options.items()}, by_role=by_role)
    return caught.value


def test_the_type_tells_the_platform_and_the_platform_the_image(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    assert aws.check({}) == "linux-64"
    assert aws.check({"instance-type": "m6g.large"}) == "linux-aarch64"
    assert [found["ImageId.1"] for found in ec2.actions("DescribeImages")] == [
        "ami-0000000000002404a",
        "ami-0000000000002404b",
    ]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("kind", ["m6i.large", "m6g.large"])
def test_every_distribution_has_an_image_for_both_architectures(
    ec2: Ec2, aws: AwsProvisioner, image: str, kind: str
) -> None:
    platform = aws.check({"image": image, "instance-type": kind})
    assert platform
    (asked,) = ec2.actions("DescribeImages")
    assert asked["ImageId.1"] == PARAMETERS[find_parameter(image, platform)]


def test_an_image_may_be_named_by_its_id_or_by_a_parameter(ec2: Ec2, aws: AwsProvisioner) -> None:
    plan = aws.find_plan({"image": "ami-0000000000002023a"})
    assert (plan.image.id, plan.image.root_device) == ("ami-0000000000002023a", "/dev/sda1")
    assert not ec2.actions("GetParameter")
    ec2.parameters["/team/image"] = "ami-00000000000000012a"
    plan = aws.find_plan({"image": "/team/image"})
    assert (plan.image.id, plan.image.root_device) == ("ami-00000000000000012a", "/dev/xvda")
    assert plan.image.size == 15


def test_what_is_looked_up_once_is_not_asked_for_again(ec2: Ec2, aws: AwsProvisioner) -> None:
    aws.check({})
    before = len(ec2.requests)
    aws.check({})
    assert len(ec2.requests) == before


def test_an_unknown_type_brings_those_that_are_close_to_it(ec2: Ec2, aws: AwsProvisioner) -> None:
    error = refuse(aws, instance_type="m6i.lagre")
    assert error.message == "Instance type `m6i.lagre` is not offered in `us-east-1`"
    assert "`m6i.large`" in str(error.hint)


def test_a_type_without_linux_is_refused(ec2: Ec2, aws: AwsProvisioner) -> None:
    assert "of x86-64 or arm64" in str(refuse(aws, instance_type="mac1.metal").message)


def test_an_image_of_the_other_architecture_is_refused(ec2: Ec2, aws: AwsProvisioner) -> None:
    error = refuse(aws, image="ami-0000000000002404b")
    assert error.message == (
        "Expected an image of `x86_64`, which `m6i.large` is, "
        "found `ami-0000000000002404b` of `arm64`"
    )


def test_windows_and_missing_images_are_refused(ec2: Ec2, aws: AwsProvisioner) -> None:
    assert "of Windows" in refuse(aws, image=WINDOWS).message
    gone = refuse(aws, image="ami-0123456789abcdef0")
    assert gone.message == "Image `ami-0123456789abcdef0` was not found in `us-east-1`"
    ec2.parameters["/team/image"] = "latest"
    assert "found `latest`" in refuse(aws, image="/team/image").message
    assert "found none" in refuse(aws, image="/team/other").message


def test_a_root_smaller_than_the_image_is_refused(ec2: Ec2, aws: AwsProvisioner) -> None:
    assert "at least 15 GiB" in refuse(aws, root_size="10").message


def test_groups_go_by_id_or_name_in_the_vpc_of_the_subnets(ec2: Ec2, aws: AwsProvisioner) -> None:
    client = ec2.client()
    vpc = client.describe_subnets(SubnetIds=ec2.subnets()[:1])["Subnets"][0]["VpcId"]
    made = client.create_security_group(GroupName="web", Description="x", VpcId=vpc)["GroupId"]
    assert aws.find_plan({"security-group": ("web",)}).groups == (made,)
    assert aws.find_plan({"security-group": (made, "web")}).groups == (made,)
    other = client.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    foreign = client.create_security_group(GroupName="db", Description="x", VpcId=other)
    error = refuse(aws, security_group=(foreign["GroupId"], "nobody"))
    assert f"`{foreign['GroupId']}`, `nobody` were not found in `{vpc}`" in error.message


def test_subnets_are_tried_in_the_users_order_where_the_type_is_offered(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    first, second, *_ = ec2.subnets()
    plan = aws.find_plan({"subnet": (second, first)})
    assert [place.subnet for place in plan.places] == [second, first]
    assert {place.zone for place in aws.find_plan({}).places} == {
        # The sixth zone of this region has no m6i.
        f"us-east-1{letter}"
        for letter in "abcdf"
    }


def test_zones_choose_among_subnets(ec2: Ec2, aws: AwsProvisioner) -> None:
    plan = aws.find_plan({"zone": ("us-east-1b",)})
    assert [place.zone for place in plan.places] == ["us-east-1b"]
    error = refuse(aws, zone=("us-east-1b",), subnet=tuple(ec2.subnets()[:1]))
    assert error.message == "No subnet of `--subnet` is in `us-east-1b`"
    error = refuse(aws, zone=("us-east-1e",))
    assert error.message == "Instance type `m6i.large` is not offered in `us-east-1e`"
    assert "`us-east-1a`" in str(error.hint)


def test_subnets_that_are_not_there_and_of_two_vpcs_are_refused(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    client = ec2.client()
    vpc = client.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    made = client.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="us-east-1a")[
        "Subnet"
    ]["SubnetId"]
    assert aws.find_plan({"subnet": (made,)}).places[0].zone == "us-east-1a"
    error = refuse(aws, subnet=("subnet-0123456789abcdef0",))
    assert error.message == "Subnets `subnet-0123456789abcdef0` were not found in `us-east-1`"
    assert "Expected subnets of one VPC" in refuse(aws, subnet=(made, ec2.subnets()[0])).message


def test_a_region_without_a_default_vpc_wants_a_subnet(ec2: Ec2, aws: AwsProvisioner) -> None:
    client = ec2.client()
    for subnet in ec2.subnets():
        client.delete_subnet(SubnetId=subnet)
    assert "has no default VPC" in refuse(aws).message


def test_keys_placement_groups_and_profiles_must_be_there(ec2: Ec2, aws: AwsProvisioner) -> None:
    error = refuse(aws, key="k", placement="g", instance_profile="p")
    assert [cause.partition(" (hint: ")[0] for cause in error.causes] == [
        "Key pair `k` was not found in `us-east-1`",
        "Placement group `g` was not found in `us-east-1`",
        "Instance profile `p` was not found",
    ]
    assert "(hint: `aws ec2 describe-key-pairs` lists" in error.causes[0]
    ec2.placement_groups |= {"close": "cluster", "apart": "spread"}
    assert aws.find_plan({"placement": "close"}).together
    assert not aws.find_plan({"placement": "apart"}).together
    ec2.make_profile("empty", role=False)
    assert "`empty` holds no role" in refuse(aws, instance_profile="empty").message


def test_a_profile_that_may_not_be_looked_at_is_left_to_ec2(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.strike("GetInstanceProfile", "AccessDenied", status=403)
    assert aws.check({"instance-profile": "anything"}) == "linux-64"


def test_with_a_role_there_must_be_a_profile(ec2: Ec2, aws: AwsProvisioner) -> None:
    error = refuse(aws, by_role=True)
    assert error.message.startswith("Expected an instance profile")
    assert "--instance-profile" in str(error.hint)
    ec2.make_profile("machines")
    assert aws.check({"instance-profile": "machines"}, by_role=True) == "linux-64"
    assert aws.check({}) == "linux-64"


def test_everything_that_is_wrong_is_said_at_once(ec2: Ec2, aws: AwsProvisioner) -> None:
    error = refuse(
        aws, by_role=True, instance_type="m6i.lagre", tag=("x",), key="k", subnet=("subnet-0",)
    )
    assert error.message == "Cannot launch on EC2, for 5 reasons"
    assert len(error.causes) == 5
    error = refuse(aws, instance_type="large", instance_profile="arn:x", zone=("nowhere",))
    assert len(error.causes) == 3


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_comes_from_the_option_the_environment_or_the_profile(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    error = refuse(AwsProvisioner(make_session()), tag=("x",))
    assert any(cause.startswith("Expected a region of AWS, found none") for cause in error.causes)
    profile = tmp_path / "config"
    profile.write_text("[default]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    assert AwsProvisioner(make_session()).find_clients().region == "eu-west-1"
    monkeypatch.setenv(name, "eu-west-2")
    assert AwsProvisioner(make_session()).find_clients().region == "eu-west-2"
    assert AwsProvisioner(make_session()).find_clients("eu-west-3").region == "eu-west-3"
    # The session's, whatever the process has by now.
    chosen = {"AWS_REGION": "eu-north-1"}
    other = AwsProvisioner(make_session(environment=chosen))
    assert other.find_clients().region == "eu-north-1"
    assert "such as `eu-west-1`, found `here`" in refuse(aws, region="here").message


def test_a_profile_of_credentials_that_is_not_there_is_named(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    error = refuse(aws)
    assert "nobody" in " ".join(error.causes)
    assert "AWS_PROFILE" in str(error.hint)


def test_what_may_not_be_asked_names_the_permission(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.strike("DescribeImages", "UnauthorizedOperation", status=403, message="You may not")
    error = refuse(aws)
    assert error.message == "Failed to look up what EC2 has in `us-east-1`"
    assert "`ec2:DescribeImages`" in str(error.hint)
    message = "User: x is not authorized to perform: ssm:GetParameter on resource: y"
    ec2.strike("GetParameter", "AccessDeniedException", message=message)
    assert "`ssm:GetParameter`" in str(refuse(aws).hint)


def test_no_credentials_are_said_so(
    ec2: Ec2, aws: AwsProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert os.environ["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert "aws sso login" in str(refuse(aws).hint)
