"""Each example, as a user runs it, with the real AWS provider: from init to destroy.

Most of the time the provider waits, so that the examples run beside each other.
"""

from __future__ import annotations

import base64
import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from envboot.store.lifetimes import SHORT_LIVED
from envboot.store.s3 import lifecycle, policy
from tests.servers import S3Server, s3_server
from tests.terraform.cloud import Workplace, make_client, open_workplace, run_api
from tests.terraform.environments import make_manifest
from tests.terraform.hcl import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["s3_server"]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

VERSIONS = ("3.12.1", "3.12.2")
COMMAND = ["python", "-m", "trading.serve"]
# What stands for the data source, whose provider cannot be had here.
RENDERED = 'locals {\n  rendered = jsondecode(file("${path.module}/rendered.json"))\n}\n'


@dataclass(kw_only=True, slots=True)
class Story:
    """What one example came to, in its two environments."""

    documents: list[str] = field(default_factory=list)
    plans: list[int] = field(default_factory=list)
    changes: list[dict[str, list[str]]] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, str]] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Player:
    """Plays one example through."""

    name: str
    bucket: str
    place: Workplace
    api: str

    def play(self) -> Story:
        """Run everything that must be shown, and note what it came to."""
        self.place.terraform.run("init", "-no-color")
        with self.place.terraform.attach() as terraform:
            return replace(self, place=replace(self.place, terraform=terraform)).go_on()

    def go_on(self) -> Story:
        """Run what comes after `init`."""
        story = Story()
        run = self.place.terraform.run
        self.render(Story(), VERSIONS[0])
        run("validate", "-no-color")
        if self.name == "aws":
            self.apply(story, {"bucket_name": self.bucket})
            story.seen["store"] = json.loads(run("output", "-json").stdout)["store_url"]["value"]
            story.changes.clear()
        for version in VERSIONS:
            variables = self.render(story, version)
            self.apply(story, variables)
            self.look(story)
            # Rendered again, as at any later plan.
            assert self.render(story, version) == variables
            assert story.documents.pop() == story.documents[-1]
            story.plans.append(self.plan(variables))
        self.look_at_account(story)
        run("destroy", "-auto-approve", "-no-color", *self.words(variables))
        story.left = self.find_left()
        return story

    def render(self, story: Story, version: str) -> dict[str, str]:
        """Render for one environment and return the example's variables."""
        manifest, folder = make_manifest(version), self.place.folder
        (folder / "manifest.json").write_bytes(manifest.to_bytes())
        store = f"s3://{self.bucket}/envboot"
        variables = {"bucket_name": self.bucket}
        if self.name == "aws-external":
            query = {"store": store, "manifest": "manifest.json", "command": json.dumps(COMMAND)}
            answer = self.place.envboot("terraform-external", query=json.dumps(query))
            (folder / "rendered.json").write_text(answer)
            story.documents.append(json.loads(answer)["user_data_base64"])
            return {**variables, "manifest_file": "manifest.json"}
        words = ("--for", "terraform", "--store", store, "--manifest", "manifest.json")
        self.place.envboot("render-userdata", *words, "-o", "user-data.b64", "--", *COMMAND)
        story.documents.append((folder / "user-data.b64").read_text())
        variables["user_data_file"] = "user-data.b64"
        if self.name == "aws":
            return {**variables, "manifest_file": "manifest.json"}
        return {**variables, "environment_digest": manifest.environment_digest}

    @staticmethod
    def words(variables: dict[str, str]) -> list[str]:
        return [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]

    def apply(self, story: Story, variables: dict[str, str]) -> None:
        """Plan and apply that, and note what was done to each resource, in its order.

        One command, since each takes a second to read the provider's schema.
        """
        words = ("apply", "-auto-approve", "-json", *self.words(variables))
        changes: dict[str, list[str]] = {}
        for line in self.place.terraform.run(*words).stdout.splitlines():
            record = json.loads(line)
            if record["type"] == "apply_start" and record["hook"]["action"] != "read":
                resource = record["hook"]["resource"]["addr"]
                changes.setdefault(resource, []).append(record["hook"]["action"])
        story.changes.append(changes)

    def plan(self, variables: dict[str, str]) -> int:
        """Return 0 where nothing is to change, 2 where something is."""
        words = ("plan", "-detailed-exitcode", "-no-color", *self.words(variables))
        return self.place.terraform.run(*words, codes=(0, 2)).returncode

    def look(self, story: Story) -> None:
        """Note the newest template, and the instances with their user-data."""
        ec2 = make_client(self.api, "ec2")
        name = self.find_name()
        (version,) = ec2.describe_launch_template_versions(
            LaunchTemplateName=name, Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        story.templates.append(version)
        filters = [
            {"Name": "tag:envboot:fleet", "Values": [name]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        story.instances.append(
            {
                each["InstanceId"]: ec2.describe_instance_attribute(
                    InstanceId=each["InstanceId"], Attribute="userData"
                )["UserData"]["Value"]
                for found in ec2.describe_instances(Filters=filters)["Reservations"]
                for each in found["Instances"]
            }
        )

    def find_name(self) -> str:
        return {"aws": "forecast", "aws-existing-bucket": "notebook"}.get(self.name, "serving")

    def look_at_account(self, story: Story) -> None:
        """Note the role, the security group, the group and the bucket."""
        name = self.find_name()
        iam, ec2 = make_client(self.api, "iam"), make_client(self.api, "ec2")
        story.seen["role"] = iam.get_role_policy(RoleName=name, PolicyName="envboot")
        (story.seen["security group"],) = ec2.describe_security_groups(GroupNames=[name])[
            "SecurityGroups"
        ]
        groups = make_client(self.api, "autoscaling").describe_auto_scaling_groups()
        story.seen["group"] = next(
            (each for each in groups["AutoScalingGroups"] if each["AutoScalingGroupName"] == name),
            None,
        )
        if self.name == "aws":
            s3, bucket = make_client(self.api, "s3"), {"Bucket": self.bucket}
            story.seen["bucket"] = {
                "rules": s3.get_bucket_lifecycle_configuration(**bucket)["Rules"],
                "policy": json.loads(s3.get_bucket_policy(**bucket)["Policy"]),
                "block": s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"],
                "owner": s3.get_bucket_ownership_controls(**bucket)["OwnershipControls"]["Rules"],
                "encryption": s3.get_bucket_encryption(**bucket)[
                    "ServerSideEncryptionConfiguration"
                ]["Rules"],
            }

    def find_left(self) -> list[str]:
        """Return what is still there of the example."""
        name, ec2, iam = (
            self.find_name(),
            make_client(self.api, "ec2"),
            make_client(self.api, "iam"),
        )
        found = [each["RoleName"] for each in iam.list_roles()["Roles"]]
        found += [
            each["LaunchTemplateName"]
            for each in ec2.describe_launch_templates()["LaunchTemplates"]
        ]
        found += [each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]]
        found += [each["Name"] for each in make_client(self.api, "s3").list_buckets()["Buckets"]]
        return [each for each in found if each in (name, self.bucket)]


@pytest.fixture(scope="module")
def stories(
    s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Story]]]:
    """Play all examples at once."""
    folder = tmp_path_factory.mktemp("examples")
    names = [path.name for path in EXAMPLES if path.name != "gcp"]
    with run_api(folder) as api, ThreadPoolExecutor(len(names)) as pool:
        waits = {}
        for name in names:
            bucket = f"envs-of-{name}"
            s3_server.client().create_bucket(Bucket=bucket)
            place = open_workplace(name, folder / name, api, s3_server.environment())
            if name == "aws-external":
                (place.folder / "rendering.tf").write_text(RENDERED)
                shutil.copy(place.folder.parent / "aws/versions.tf", place.folder)
            waits[name] = pool.submit(Player(name=name, bucket=bucket, place=place, api=api).play)
        yield waits


@pytest.fixture(params=["aws", "aws-existing-bucket", "aws-external"])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def story(stories: dict[str, Future[Story]], name: str) -> Story:
    return stories[name].result()


def test_an_unchanged_environment_plans_no_change(story: Story) -> None:
    assert story.plans == [0, 0]


def test_the_launch_template_has_the_document_as_it_was_rendered(story: Story) -> None:
    user_data = [each["LaunchTemplateData"]["UserData"] for each in story.templates]
    assert user_data == story.documents
    # Encoded once: what it decodes to is gzip.
    assert {base64.b64decode(text)[:2] for text in user_data} == {b"\x1f\x8b"}


def test_another_digest_is_a_new_version_and_new_machines(story: Story) -> None:
    assert [each["VersionNumber"] for each in story.templates] == [1, 2]
    assert story.templates[1]["DefaultVersion"]
    digests = [make_manifest(version).environment_digest for version in VERSIONS]
    assert [each["VersionDescription"] for each in story.templates] == [
        f"envboot environment {digest}" for digest in digests
    ]
    before, after = story.instances
    assert len(before) == len(after) >= 1
    assert before.keys().isdisjoint(after)
    assert set(before.values()) == {story.documents[0]}
    assert set(after.values()) == {story.documents[1]}


def test_a_change_of_the_digest_changes_the_template_and_who_uses_it(
    story: Story, name: str
) -> None:
    wanted = {
        "aws": {
            "module.fleet.aws_launch_template.this[0]": ["update"],
            "module.fleet.aws_autoscaling_group.this[0]": ["update"],
        },
        "aws-existing-bucket": {
            "module.machine.aws_launch_template.this[0]": ["update"],
            "aws_instance.this": ["create", "delete"],
            "terraform_data.environment": ["update"],
        },
    }
    wanted["aws-external"] = wanted["aws"]
    assert story.changes[1] == wanted[name]


def test_machines_are_closed_and_encrypted(story: Story) -> None:
    data = story.templates[1]["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    (device,) = data["BlockDeviceMappings"]
    assert device["Ebs"]["Encrypted"]
    assert device["Ebs"]["VolumeType"] == "gp3"
    assert {each["ResourceType"] for each in data["TagSpecifications"]} == {"instance", "volume"}
    assert data["IamInstanceProfile"]["Arn"]


def test_nothing_comes_in(story: Story) -> None:
    group = story.seen["security group"]
    assert group["IpPermissions"] == []
    assert {(each["FromPort"], each["ToPort"]) for each in group["IpPermissionsEgress"]} == {
        (443, 443)
    }
    for template in story.templates:
        assert template["LaunchTemplateData"]["SecurityGroupIds"] == [group["GroupId"]]


def test_the_role_reads_creates_and_nothing_else(story: Story, name: str) -> None:
    statements = story.seen["role"]["PolicyDocument"]["Statement"]
    arn = f"arn:aws:s3:::envs-of-{name}"
    read = ["base/*", "environments/*", "layers/*", "packages/*", "tools/*"]
    read += ["launches/*/seats-*.json", "launches/*/wanted-*.json"]
    bases = [] if name == "aws-existing-bucket" else ["base/*/env.tar.zst", "base/*/index.json"]
    own = "${ec2:SourceInstanceARN}"
    assert {each["Sid"]: _listed(each["Resource"]) for each in statements} == {
        "Read": sorted(f"{arn}/envboot/{key}" for key in read),
        "ReadOwnSecret": [f"{arn}/envboot/launches/*/secrets/{own}.json"],
        "TellMissing": [arn],
        "Create": sorted(f"{arn}/envboot/{key}" for key in (f"reports/*/{own}/*", *bases)),
    }
    assert {each["Sid"]: each["Action"] for each in statements} == {
        "Read": "s3:GetObject",
        "ReadOwnSecret": "s3:GetObject",
        "TellMissing": "s3:ListBucket",
        "Create": "s3:PutObject",
    }
    conditions = {each["Sid"]: each.get("Condition") for each in statements}
    assert conditions["TellMissing"] == {"StringLike": {"s3:prefix": "envboot/*"}}
    assert conditions["Create"] == {"Null": {"s3:if-none-match": "false"}}


def _listed(value: str | list[str]) -> list[str]:
    return sorted([value] if isinstance(value, str) else value)


def test_nothing_is_left_after_destroy(story: Story) -> None:
    assert story.left == []


def test_the_bucket_is_what_store_init_makes(stories: dict[str, Future[Story]]) -> None:
    story = stories["aws"].result()
    bucket = story.seen["bucket"]
    lives = {**SHORT_LIVED, "base": 30}
    rules = lifecycle.make_rules("envboot/", lives)
    assert lifecycle.find_differences(bucket["rules"], rules, "envboot/") == []
    assert policy.is_tls_only(bucket["policy"], "envs-of-aws", "aws")
    assert bucket["block"] == dict.fromkeys(bucket["block"], True)
    assert [each["ObjectOwnership"] for each in bucket["owner"]] == ["BucketOwnerEnforced"]
    (rule,) = bucket["encryption"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert story.seen["store"] == "s3://envs-of-aws/envboot"


def test_groups_have_what_their_examples_ask_for(stories: dict[str, Future[Story]]) -> None:
    mixed = stories["aws"].result().seen["group"]["MixedInstancesPolicy"]
    types = [each["InstanceType"] for each in mixed["LaunchTemplate"]["Overrides"]]
    assert types == ["m6i.large", "m5.large", "m7i.xlarge"]
    assert mixed["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    pool = stories["aws-external"].result().seen["group"]["WarmPoolConfiguration"]
    assert (pool["PoolState"], pool["MinSize"]) == ("Stopped", 1)
