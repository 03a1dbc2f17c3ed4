"""What can be told wrong without asking AWS, all of it at once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from envboot.errors import ProvisionError
from envboot_provisioners.aws.options import OPTIONS, read_spec
from envboot_provisioners.faults import raise_faults


def fault(**options: Any) -> str:
    _, faults = read_spec({name.replace("_", "-"): value for name, value in options.items()})
    assert len(faults) == 1, faults
    return faults[0].message


def test_without_options_the_machines_are_ordinary_ones_on_demand() -> None:
    spec, faults = read_spec({})
    assert not faults
    assert (spec.instance_type, spec.image, spec.spot, spec.on_demand) == (
        "m6i.large",
        "ubuntu",
        False,
        True,
    )


def test_every_option_is_read() -> None:
    options: dict[str, str | tuple[str, ...]] = {
        "instance-type": "c7g.large",
        "image": "debian",
        "region": "eu-west-1",
        "zone": ("eu-west-1a",),
        "subnet": ("subnet-00000001", "subnet-00000001"),
        "security-group": ("sg-1", "web"),
        "public-ip": "no",
        "instance-profile": "machines",
        "key": "mine",
        "root-size": "40",
        "spot": "true",
        "spot-only": "true",
        "max-price": "0.25",
        "placement": "close",
        "tag": ("team=trading", "cost=a=b"),
    }
    assert set(options) == {option.name for option in OPTIONS}
    spec, faults = read_spec(options)
    assert not faults
    assert spec.subnets == ("subnet-00000001",)
    assert spec.groups == ("sg-1", "web")
    assert spec.public_ip is False
    assert spec.tags == (("team", "trading"), ("cost", "a=b"))
    assert (spec.spot, spec.on_demand, spec.max_price) == (True, False, "0.25")
    assert (spec.zones, spec.key, spec.root_size) == (("eu-west-1a",), "mine", 40)
    assert (spec.profile, spec.placement) == ("machines", "close")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "ubuntoo"}, "Unknown image `ubuntoo`"),
        ({"instance_type": "large"}, "Expected an instance type, such as `m6i.large`"),
        ({"root_size": "0"}, "Expected `root-size` as GiB from 1 to 16,384, found `0`"),
        ({"root_size": "40G"}, "found `40G`"),
        ({"root_size": "99999"}, "found `99999`"),
        ({"subnet": ("vpc-1",)}, "Expected a subnet, such as `subnet-0123456789abcdef0`"),
        ({"zone": ("us-east-1",)}, "Expected a zone, such as `us-east-1a`, found `us-east-1`"),
        ({"public_ip": "maybe"}, "Expected `public-ip` as `yes` or `no`, found `maybe`"),
        ({"instance_profile": "arn:aws:iam::123456789012:role/x"}, "profile's name or ARN"),
        ({"max_price": "cheap", "spot": "true"}, "Expected `max-price` in USD an hour"),
        ({"max_price": "0", "spot": "true"}, "Expected `max-price` in USD an hour"),
        ({"max_price": "1"}, "Cannot take `max-price` without `spot`"),
        ({"tag": ("team",)}, "Expected a tag as `KEY=VALUE`, found `team`"),
        ({"tag": ("a=" + "b" * 257,)}, "Expected a tag as `KEY=VALUE`"),
        ({"tag": ("envboot:launch=x",)}, "Cannot set the tag `envboot:launch`, which is reserved"),
        ({"tag": ("aws:x=y",)}, "Cannot set the tag `aws:x`, which is reserved"),
        ({"tag": ("a=1", "a=2")}, "Cannot set the tag `a` twice"),
        ({"tag": tuple(f"k{i}=v" for i in range(49))}, "Expected at most 48 tags, found 49"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    assert message in fault(**options)


def test_a_tag_may_give_the_machines_a_name_of_their_own() -> None:
    spec, faults = read_spec({"tag": ("Name=mine", *(f"k{i}=v" for i in range(48)))})
    assert not faults
    assert spec.tags[0] == ("Name", "mine")


def test_many_faults_are_one_error_and_one_keeps_its_words() -> None:
    _, faults = read_spec({"image": "x", "root-size": "x", "tag": ("x",)})
    with pytest.raises(ProvisionError, match="Cannot launch on EC2, for 3 reasons") as caught:
        raise_faults(faults, "EC2")
    assert len(caught.value.causes) == 3
    with pytest.raises(ProvisionError, match="Expected `root-size`"):
        raise_faults(faults[:1], "EC2")


@pytest.mark.subprocess
def test_naming_the_options_does_not_import_boto3() -> None:
    program = (
        "import sys; from envboot_provisioners.aws import AwsProvisioner; AwsProvisioner.options;"
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
