"""Launch templates: what they hold, and a new version only where something has changed."""

from __future__ import annotations

import base64
import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import Exit, ProvisionError
from envboot_provisioners.aws.request import compose_template, encode_user_data
from envboot_provisioners.aws.templates import check_name, put_template
from tests.docs.pages import REFERENCE, read_rows, read_section
from tests.launch.test_conda import open_conda_workspace
from tests.launch.workspace import ENVBOOT
from tests.provisioners.aws.plans import USER_DATA
from tests.servers import run_s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot_provisioners.aws import AwsProvisioner
    from tests.ec2 import Ec2
    from tests.launch.workspace import Workspace
    from tests.servers import S3Server

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

NAME = "fleet"


def compose(aws: AwsProvisioner, *, user_data: bytes = USER_DATA, **options: Any) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    plan = aws.find_plan(named)
    return compose_template(plan, name=NAME, user_data=encode_user_data(user_data, None), room=0)


def read(ec2: Ec2, version: str = "$Default") -> dict[str, Any]:
    found = ec2.client().describe_launch_template_versions(
        LaunchTemplateName=NAME, Versions=[version]
    )["LaunchTemplateVersions"]
    data: Any = found[0]["LaunchTemplateData"]
    assert isinstance(data, dict)
    return data


def test_what_was_composed_is_what_ec2_holds(ec2: Ec2, aws: AwsProvisioner) -> None:
    ec2.make_profile("machines")
    data = compose(
        aws, instance_profile="machines", spot_only="true", max_price="0.5", public_ip="no"
    )
    made = put_template(aws.find_clients(), NAME, data)
    assert (made.version, made.made) == (1, True)
    held = read(ec2)
    assert held["MetadataOptions"]["HttpTokens"] == "required"
    assert held["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert held["InstanceMarketOptions"]["MarketType"] == "spot"
    assert held["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] == "0.5"
    assert held["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert held["IamInstanceProfile"] == {"Name": "machines"}
    assert held["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is False
    assert held["ImageId"] == "ami-0000000000002404a"
    assert {item["ResourceType"] for item in held["TagSpecifications"]} >= {"instance", "volume"}


def test_user_data_arrives_byte_for_byte(ec2: Ec2, aws: AwsProvisioner) -> None:
    put_template(aws.find_clients(), NAME, compose(aws))
    assert base64.b64decode(read(ec2)["UserData"]) == USER_DATA
    put_template(aws.find_clients(), NAME, compose(aws, user_data=USER_DATA[::-1]))
    assert base64.b64decode(read(ec2)["UserData"]) == USER_DATA[::-1]


def test_a_change_makes_a_version_that_is_the_default_and_no_change_makes_none(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    clients = aws.find_clients()
    first = put_template(clients, NAME, compose(aws))
    again = put_template(clients, NAME, compose(aws))
    assert (again.id, again.version, again.made) == (first.id, 1, False)
    other = put_template(clients, NAME, compose(aws, instance_type="m6i.xlarge"))
    assert (other.id, other.version, other.made) == (first.id, 2, True)
    assert read(ec2)["InstanceType"] == "m6i.xlarge"
    back = put_template(clients, NAME, compose(aws))
    assert (back.version, back.made) == (3, True)
    assert len(ec2.actions("CreateLaunchTemplate")) == 1
    assert len(ec2.actions("CreateLaunchTemplateVersion")) == 2


def test_a_version_whose_setting_as_default_failed_becomes_it_the_next_time(
    ec2: Ec2, aws: AwsProvisioner
) -> None:
    clients = aws.find_clients()
    put_template(clients, NAME, compose(aws))
    ec2.strike("ModifyLaunchTemplate", "UnauthorizedOperation", status=403)
    with pytest.raises(ProvisionError, match="Failed to write launch template `fleet`") as caught:
        put_template(clients, NAME, compose(aws, instance_type="m6i.xlarge"))
    assert "`ec2:ModifyLaunchTemplate`" in str(caught.value.hint)
    assert read(ec2)["InstanceType"] == "m6i.large"
    made = put_template(clients, NAME, compose(aws, instance_type="m6i.xlarge"))
    assert (made.version, made.made) == (2, False)
    assert read(ec2)["InstanceType"] == "m6i.xlarge"


def test_instances_that_a_template_starts_have_its_tags(ec2: Ec2, aws: AwsProvisioner) -> None:
    made = put_template(aws.find_clients(), NAME, compose(aws, tag=("team=trading",)))
    ec2.client().run_instances(LaunchTemplate={"LaunchTemplateId": made.id}, MinCount=2, MaxCount=2)
    found = aws.instances(NAME)
    assert len(found) == 2
    aws.terminate(found)


@pytest.mark.parametrize("name", ["ab", "x" * 129, "with space", "ümlaut"])
def test_a_name_that_ec2_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ProvisionError, match="Expected a template's name"):
        check_name(name)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A bucket's server."""
    with run_s3_server(tmp_path_factory.mktemp("bucket")) as server:
        server.client().create_bucket(Bucket="team")
        yield server


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A conda environment, with a project."""
    with open_conda_workspace(tmp_path_factory.mktemp("conda")) as found:
        yield found


class TestCommand:
    """`envboot aws launch-template`, with a real bucket."""

    def run(self, workspace: Workspace, ec2: Ec2, s3: S3Server, *words: str) -> Any:
        variables = {
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            **ec2.environment(),
            **s3.environment(),
        }
        return workspace.run(
            *(ENVBOOT, "aws", "launch-template", NAME, "--python", str(workspace.python)),
            *words,
            **variables,
        )

    def test_writes_the_environment_and_nothing_that_ends(
        self, workspace: Workspace, ec2: Ec2, s3: S3Server
    ) -> None:
        ec2.make_profile("machines")
        bucket = ("--store", "s3://team/envs", "--instance-profile", "machines")
        command = ("--json", "--", "python", "-c", "import mine")
        done = self.run(workspace, ec2, s3, *bucket, *command)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["name"], told["version"], told["made"]) == (NAME, 1, True)
        title = "`envboot aws launch-template --json`"
        assert set(read_rows(read_section(REFERENCE, title))) == set(told)
        held = read(ec2)
        tags = {tag["Key"]: tag["Value"] for tag in held["TagSpecifications"][0]["Tags"]}
        assert tags["envboot:launch"] == told["launch"]
        document = base64.b64decode(held["UserData"])
        text = (gzip.decompress(document) if document[:2] == b"\x1f\x8b" else document).decode()
        assert told["environment"].encode() in text.encode()
        assert "/team/envs/" in text
        assert "X-Amz-Signature" not in text
        assert "X-Amz-Credential" not in text
        again = json.loads(self.run(workspace, ec2, s3, *bucket, *command).stdout)
        assert (again["version"], again["made"]) == (1, False)
        third = self.run(workspace, ec2, s3, *bucket, "--env", "A=1", *command[1:])
        assert "version 2" in third.stdout, third.stderr

    def test_refuses_signed_urls_a_missing_role_and_a_folder(
        self, workspace: Workspace, ec2: Ec2, s3: S3Server
    ) -> None:
        for words, message in (
            (("--auth", "urls"), "Cannot write signed URLs into a launch template"),
            (("--store", "s3://team/envs"), "Expected an instance profile"),
            (
                ("--store", "file:///tmp/x"),
                "Expected a bucket that machines can reach, found `file",
            ),
            ((), "Expected a bucket that machines can reach, found none"),
        ):
            done = self.run(workspace, ec2, s3, *words)
            assert done.returncode in (Exit.USAGE, Exit.PROVISION)
            assert message in done.stderr
        assert (
            "--auth role --instance-profile"
            in self.run(workspace, ec2, s3, "--auth", "urls").stderr
        )
        assert not ec2.actions("CreateLaunchTemplate")
