"""The policy files themselves: what IAM takes, what AWS knows, and no more than has a reason."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import botocore.session
import pytest

from envboot.fleet.reports import KEY
from envboot.store.s3.errors import ACTIONS
from tests.boot.metadata import identify
from tests.docs.pages import ROOT
from tests.policies.attacks import OBEYED
from tests.policies.documents import (
    NAMES,
    VALUES,
    Need,
    find_actions,
    find_allowing,
    many,
    read_policy,
    read_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.policies.documents import Document

LARGEST = 6144
"""Characters of a managed policy, white space not counted (IAM User Guide, "IAM quotas")."""
WITHOUT_RESOURCES = {
    "ec2:DescribeImages": "Describe* of EC2 takes no resources",
    "ec2:DescribeInstances": "Describe* of EC2 takes no resources",
    "ec2:DescribeInstanceTypeOfferings": "Describe* of EC2 takes no resources",
    "ec2:DescribeInstanceTypes": "Describe* of EC2 takes no resources",
    "ec2:DescribeKeyPairs": "Describe* of EC2 takes no resources",
    "ec2:DescribeLaunchTemplates": "Describe* of EC2 takes no resources",
    "ec2:DescribeLaunchTemplateVersions": "Describe* of EC2 takes no resources",
    "ec2:DescribePlacementGroups": "Describe* of EC2 takes no resources",
    "ec2:DescribeSecurityGroups": "Describe* of EC2 takes no resources",
    "ec2:DescribeSubnets": "Describe* of EC2 takes no resources",
    "servicequotas:GetServiceQuota": "it takes no resources; it tells of this account only",
    "sts:DecodeAuthorizationMessage": "it takes no resources; a message is of this account",
}
"""Service Authorization Reference, "Actions, resources, and condition keys" of each service."""
MODELS = {"servicequotas": "service-quotas"}
"""Where a service's prefix in policies is not botocore's name of it."""
NO_OPERATIONS = {
    "iam:PassRole": "asked along with RunInstances",
    "s3:ListBucket": "of HeadBucket and ListObjectsV2",
}
PLACES = {"arn:aws:s3:::", "arn:aws:ec2:", "arn:aws:iam::", "arn:aws:ssm:", "arn:aws:kms:"}


@pytest.mark.parametrize("name", NAMES)
def test_iam_takes_it(name: str) -> None:
    document = json.loads(read_text(name))
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids), "IAM takes no other characters"
    long = {**VALUES, "BUCKET": 63 * "b", "PREFIX": 32 * "p", "ROLE": 64 * "r"}
    assert len("".join(json.dumps(read_policy(name, long)).split())) <= LARGEST


@pytest.mark.parametrize("name", NAMES)
def test_every_action_is_one_of_aws(name: str) -> None:
    session = botocore.session.Session()
    for action in find_actions(read_policy(name)):
        service, _, operation = action.partition(":")
        if action in NO_OPERATIONS:
            continue
        if service == "s3" and action in {each for found in ACTIONS.values() for each in found}:
            # S3 names some actions after another thing than the request.
            continue
        model = session.get_service_model(MODELS.get(service, service))
        assert operation in model.operation_names, action


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_allowed_on_everything_without_a_reason(name: str) -> None:
    for statement in read_policy(name)["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = many(statement["Action"]), many(statement["Resource"])
        assert not any("*" in action for action in actions)
        on_all = {action for action in actions if action in WITHOUT_RESOURCES}
        assert on_all == (set(actions) if resources == ["*"] else set())
        for resource in resources:
            assert resource == "*" or any(resource.startswith(place) for place in PLACES)


@pytest.mark.parametrize("name", [*NAMES, "trust"])
def test_what_is_to_be_filled_in_is_told_on_the_page(name: str) -> None:
    words = set(re.findall(r"\b[A-Z]{3,}\b", read_text(name)))
    assert words <= VALUES.keys()
    page = (ROOT / "docs/aws.md").read_text("utf-8")
    assert f"aws/{name}.json" in page
    assert all(f"`{word}`" in page for word in words)


def test_every_statement_is_told_on_the_page() -> None:
    page = (ROOT / "docs/aws.md").read_text("utf-8")
    told = set(re.findall(r"`(Optional\w+)`", page))
    sids = {each["Sid"] for name in NAMES for each in read_policy(name)["Statement"]}
    assert told == {sid for sid in sids if sid.startswith("Optional")}


@pytest.mark.subprocess
def test_the_command_on_the_page_fills_all_files_in(tmp_path: Path) -> None:
    page = (ROOT / "docs/aws.md").read_text("utf-8")
    found = re.search(r"^```sh\n(mkdir policies\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    subprocess.run(["bash", "-euc", found[1]], cwd=tmp_path, check=True)
    values = {
        "BUCKET": "team-envs",
        "PREFIX": "envboot",
        "ACCOUNT": "111122223333",
        "REGION": "eu-west-1",
        "ROLE": "envboot-machine",
        "KEY": "0a1b2c3d",
    }
    files = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("policies/*")}
    assert files == {name: read_policy(name, values) for name in (*NAMES, "trust")}


def test_a_bucket_without_a_prefix_wants_it_taken_out() -> None:
    text = read_text("client").replace("PREFIX/", "")
    document = json.loads(text)
    lists = Need(
        action="s3:ListBucket",
        resource="arn:aws:s3:::BUCKET",
        context={"s3:prefix": "reports/launch/"},
    )
    writes = Need(
        action="s3:PutObject",
        resource="arn:aws:s3:::BUCKET/layers/0.tar.zst",
        context={"s3:if-none-match": "*"},
    )
    assert may(document, lists)
    assert may(document, writes)


def test_the_role_is_for_ec2_alone() -> None:
    (statement,) = json.loads(read_text("trust"))["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"


def put(key: str, **context: str) -> Need:
    """Return the writing of an object below the prefix, by the instance `i-0` if a machine asks."""
    names = {"create": "s3:if-none-match", "source": "s3:x-amz-copy-source"}
    named = {names[name]: value for name, value in context.items()}
    return Need(action="s3:PutObject", resource=locate(key), context={**FROM, **named})


def get(key: str, **context: str) -> Need:
    """Return the reading of an object below the prefix, by the instance `i-0` or by `context`."""
    return Need(action="s3:GetObject", resource=locate(key), context=context or FROM)


def locate(key: str) -> str:
    """Return the resource of an object below the prefix."""
    return f"arn:aws:s3:::{VALUES['BUCKET']}/{VALUES['PREFIX']}/{key}"


def may(document: Document, need: Need) -> bool:
    """Tell whether a policy allows something."""
    return find_allowing(document, need) is not None


OURS, OTHER = identify("i-0"), identify("i-1")
FROM = {"ec2:SourceInstanceARN": OURS}
BASE = "base/00/env.tar.zst"
OWN = f"{VALUES['BUCKET']}/{VALUES['PREFIX']}/{BASE}"


def test_nobody_may_replace_what_machines_run() -> None:
    for name in ("client", "builder"):
        document = read_policy(name)
        assert may(document, put(BASE, create="*"))
        assert not may(document, put(BASE))
        assert not may(document, put(BASE, source=f"elsewhere/{BASE}"))


def test_only_clients_may_refresh_a_base_which_is_to_copy_it() -> None:
    assert may(read_policy("client"), put(BASE, source=OWN))
    for name in ("guest", "builder"):
        document = read_policy(name)
        # IAM cannot tell a copy onto itself from one over another base.
        assert not may(document, put(BASE, source=OWN))
        assert not may(document, put(BASE, source=OWN.replace("/00/", "/11/")))


def test_a_machine_writes_its_own_reports_alone_and_none_twice() -> None:
    guest = read_policy("guest")
    folders = ("base/00/manifest.json", "base/00/index.json", "tools/00/uv", "environments/0.json")
    assert not any(may(guest, put(key, create="*")) for key in (*folders, BASE))
    builder = read_policy("builder")
    assert [may(builder, put(key, create="*")) for key in (*folders, BASE)] == [
        *(False, True, False, False),
        True,
    ]


@pytest.mark.parametrize("name", ["guest", "builder"])
def test_a_machine_reaches_nothing_of_another_machine(name: str) -> None:
    document = read_policy(name)
    report = "reports/launch/events/{}/0000000000001-result.json"
    assert may(document, put(report.format(OURS), create="*"))
    assert not may(document, put(report.format(OURS))), "nor replaces what it has reported"
    for key in (report.format(OTHER), report.format("i-0"), report.format(f"{OTHER}/x/{OURS}")):
        taken = may(document, put(key, create="*"))
        # What it can write between others' names is no report.
        assert taken is (OURS in key)
        assert not (taken and KEY.fullmatch(key))
    secret = "launches/launch/secrets/{}.json"
    assert may(document, get(secret.format(OURS)))
    assert not may(document, get(secret.format(OTHER)))
    assert not may(document, get(secret.format("permit-0")))
    assert not may(document, get(secret.format(OURS), **{"aws:userid": "AROA:i-0"})), "no instance"
    # A name with wildcards is no pattern.
    assert not may(document, get(secret.format(OTHER), **{"ec2:SourceInstanceARN": "*"}))


@pytest.mark.parametrize("name", ["guest", "builder"])
@pytest.mark.parametrize("key", [*OBEYED, f"launches/other/secrets/{OURS}.json"])
def test_a_machine_writes_nothing_that_others_obey(name: str, key: str) -> None:
    assert may(read_policy("client"), put(key, create="*"))
    assert not may(read_policy(name), put(key, create="*"))
    assert not may(read_policy(name), put(key, source=OWN))


def test_a_client_reaches_nothing_beside_the_prefix() -> None:
    client = read_policy("client")
    beside = f"arn:aws:s3:::{VALUES['BUCKET']}/team/one-more/launches/a/secrets/b.json"
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        context = {"s3:if-none-match": "*", "s3:x-amz-copy-source": OWN}
        inside = locate("launches/a/secrets/b.json")
        assert may(client, Need(action=action, resource=inside, context=context))
        assert not may(client, Need(action=action, resource=beside, context=context))
    # And it removes neither what machines run nor what they obey.
    for key in ("launches/a/wanted-1.json", "names/team/00000001.json", "environments/0.json"):
        assert not may(client, Need(action="s3:DeleteObject", resource=locate(key)))


def test_machines_of_others_stay_out_of_reach() -> None:
    client = read_policy("client")
    machine = "arn:aws:ec2:us-east-1:123456789012:instance/i-0"
    tag = {"aws:ResourceTag/envboot:launch": "20260101-000000-abcd"}
    for action in ("ec2:TerminateInstances", "ec2:GetConsoleOutput"):
        assert may(client, Need(action=action, resource=machine, context=tag))
        other = {"aws:ResourceTag/Name": "database"}
        assert not may(client, Need(action=action, resource=machine, context=other))
    # A tag would make any machine one of ours.
    context = {"aws:RequestTag/envboot:launch": "mine"}
    assert not may(client, Need(action="ec2:CreateTags", resource=machine, context=context))
    context["ec2:CreateAction"] = "RunInstances"
    assert may(client, Need(action="ec2:CreateTags", resource=machine, context=context))


def test_a_machine_wants_the_tag_and_no_old_metadata() -> None:
    client = read_policy("client")
    right = {"aws:RequestTag/envboot:launch": "a", "ec2:MetadataHttpTokens": "required"}
    machine = "arn:aws:ec2:us-east-1:123456789012:instance/*"
    for wrong in ({"ec2:MetadataHttpTokens": "optional"}, {"aws:RequestTag/envboot:launch": None}):
        context = {name: value for name, value in {**right, **wrong}.items() if value is not None}
        assert not may(client, Need(action="ec2:RunInstances", resource=machine, context=context))
    assert may(client, Need(action="ec2:RunInstances", resource=machine, context=right))


def test_no_other_role_may_be_given_and_to_nothing_but_machines() -> None:
    client, start = read_policy("client"), "arn:aws:iam::123456789012:role/"
    ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    own = start + VALUES["ROLE"]
    assert may(client, Need(action="iam:PassRole", resource=own, context=ec2))
    lambdas = {"iam:PassedToService": "lambda.amazonaws.com"}
    assert not may(client, Need(action="iam:PassRole", resource=own, context=lambdas))
    assert not may(client, Need(action="iam:PassRole", resource=f"{start}admin", context=ec2))


def test_nobody_sees_beyond_the_prefix() -> None:
    bucket = f"arn:aws:s3:::{VALUES['BUCKET']}"
    for name in ("client", "guest", "builder"):
        document = read_policy(name)
        for prefix in ({}, {"s3:prefix": ""}, {"s3:prefix": "team/two/"}):
            assert not may(document, Need(action="s3:ListBucket", resource=bucket, context=prefix))
        assert not may(document, Need(action="s3:GetObject", resource=f"{bucket}/team/two/base/0"))
        assert may(document, Need(action="s3:GetObject", resource=f"{bucket}/team/one/base/0"))


def test_the_folders_are_those_of_the_design() -> None:
    design = (ROOT / "docs/design.md").read_text("utf-8")
    folders = set(re.findall(r"^<root>/(\w+)/", design, re.MULTILINE))
    client = read_policy("client")
    assert all(may(client, put(f"{folder}/key", create="*")) for folder in folders)
    # What is there can be replaced where nothing runs it: forms know no condition.
    assert {folder for folder in folders if may(client, put(f"{folder}/key"))} == {"reports"}
    found = {
        folder
        for name in ("client", "guest", "builder")
        for statement in read_policy(name)["Statement"]
        for resource in many(statement["Resource"])
        for folder in re.findall(rf"{VALUES['PREFIX']}/(\w+)/", resource)
    }
    # Names only whoever launches gives, who may create anything below the prefix.
    assert found == folders - {"names"}
