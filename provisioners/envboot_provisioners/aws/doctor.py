"""What stands in the way of a launch on EC2, found by trying; nothing is started."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from envboot.doctor.check import Check, to_check
from envboot.errors import ProvisionError, name_some
from envboot_provisioners.aws.errors import DENIED, FAULTS, find_action, find_code, tell
from envboot_provisioners.aws.lookup import find_parameter
from envboot_provisioners.aws.options import IMAGES, read_spec
from envboot_provisioners.aws.quotas import find_quota
from envboot_provisioners.aws.request import AwsAttempt, compose_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envboot_provisioners import Options
    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.options import AwsSpec
    from envboot_provisioners.aws.request import AwsPlan

NOBODY = "i-00000000000000000"
"""An instance that is nobody's: what may be done to it is told before whether it is there."""
ALLOWED = ("DryRunOperation", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")


class AwsPlanner(Protocol):
    """What finds the services, and what a launch asks of them."""

    def find_clients(self, place: str | None = None, /) -> AwsClients:
        """Return the services of a place, by default the configured one."""

    def find_plan(self, options: Options, *, by_role: bool = False) -> AwsPlan:
        """Look up what the options ask for."""


def check_aws(
    provisioner: AwsPlanner, options: Options, *, by_role: bool = False, count: int = 1
) -> Iterator[Check]:
    """Check everything that a launch with these options asks of AWS, in its order."""
    spec, _ = read_spec(options)
    try:
        clients = provisioner.find_clients(spec.region)
        who = clients.sts.get_caller_identity()["Arn"]
    except ProvisionError as error:
        yield to_check("aws region", error)
        return
    except FAULTS as error:
        yield to_check("aws identity", clients.explain(error, "AWS does not know who asks"))
        return
    yield Check(name="aws region", status="ok", detail=f"`{clients.region}`")
    yield Check(name="aws identity", status="ok", detail=f"`{who}`")
    yield _check_lookups(clients, spec)
    try:
        plan = provisioner.find_plan(options, by_role=by_role)
    except ProvisionError as error:
        yield to_check("aws options", error)
        return
    kind, image = plan.spec.instance_type, plan.image.id
    detail = f"`{kind}` ({plan.platform}) with `{image}` in {len(plan.places)} subnets"
    yield Check(name="aws options", status="ok", detail=detail)
    yield _check_start(clients, plan)
    yield _check_on_nobody(clients, "aws terminate", clients.ec2.terminate_instances)
    yield _check_on_nobody(clients, "aws console", clients.ec2.get_console_output)
    yield _check_quota(clients, plan, count)


def _check_lookups(clients: AwsClients, spec: AwsSpec) -> Check:
    """Try each question that comes before a start."""
    name, denied, others = "aws look-ups", [], []
    questions = _questions(clients, spec)
    for action, ask in questions.items():
        error = _try(ask)
        if error and find_code(error) in DENIED:
            denied.append(action)
        elif error and not isinstance(error, ClientError):
            others.append(tell(error))
    if denied:
        return Check(
            name=name,
            status="failed",
            detail=f"May not {name_some(denied, most=len(denied))}",
            hint="Allow them to this identity; docs/aws.md has the whole policy",
        )
    if others:
        return Check(name=name, status="failed", detail=others[0])
    return Check(name=name, status="ok", detail=f"May {name_some(list(questions))}")


def _try(ask: Callable[[], Any]) -> Exception | None:
    try:
        ask()
    except FAULTS as error:
        return error
    return None


def _questions(clients: AwsClients, spec: AwsSpec) -> dict[str, Callable[[], Any]]:
    ec2, kind = clients.ec2, spec.instance_type
    types: Callable[..., Any] = ec2.describe_instance_types
    offerings: Callable[..., Any] = ec2.describe_instance_type_offerings
    only = [{"Name": "instance-type", "Values": [kind]}]
    asked: dict[str, Callable[[], Any]] = {
        "ec2:DescribeInstanceTypes": lambda: types(InstanceTypes=[kind]),
        "ec2:DescribeInstanceTypeOfferings": lambda: offerings(Filters=only),
        "ec2:DescribeImages": lambda: ec2.describe_images(Owners=["self"], MaxResults=5),
        "ec2:DescribeSubnets": lambda: ec2.describe_subnets(MaxResults=5),
        "ec2:DescribeInstances": lambda: ec2.describe_instances(MaxResults=5),
    }
    if spec.image in IMAGES or spec.image.startswith("/"):
        found = find_parameter(spec.image, "linux-64") if spec.image in IMAGES else spec.image
        asked["ssm:GetParameter"] = lambda: clients.ssm.get_parameter(Name=found)
    if spec.groups:
        asked["ec2:DescribeSecurityGroups"] = lambda: ec2.describe_security_groups(MaxResults=5)
    return asked


def _check_start(clients: AwsClients, plan: AwsPlan) -> Check:
    """Ask for one instance without having it started; `iam:PassRole` is tried along."""
    market = "spot" if plan.spec.spot else "on-demand"
    attempt = AwsAttempt(place=plan.places[0], market=market, least=1, most=1, number=1)
    launch = f"doctor-{secrets.token_hex(4)}"
    arguments = compose_run(plan, attempt, launch=launch, user_data=b"#!/bin/sh\n", room=0)
    name = "aws start"
    try:
        clients.ec2.run_instances(**arguments, DryRun=True)
    except FAULTS as error:
        if find_code(error) == "DryRunOperation":
            role = f" with the role of `{plan.spec.profile}`" if plan.spec.profile else ""
            detail = f"May `ec2:RunInstances` {market}, tagged{role}"
            return Check(name=name, status="ok", detail=detail)
        return to_check(name, clients.explain(error, "EC2 would start none"))
    return Check(name=name, status="ok", detail="May `ec2:RunInstances`")


def _check_on_nobody(clients: AwsClients, name: str, ask: Callable[..., Any]) -> Check:
    single = name == "aws console"
    action = "ec2:GetConsoleOutput" if single else "ec2:TerminateInstances"
    target = {"InstanceId": NOBODY} if single else {"InstanceIds": [NOBODY]}
    try:
        ask(**target, DryRun=True)
    except FAULTS as error:
        code = find_code(error)
        if code in ALLOWED:
            return Check(name=name, status="ok", detail=f"May `{action}`")
        if code in DENIED and isinstance(error, ClientError):
            named = find_action(error) or action
            return Check(
                name=name,
                status="warning",
                detail=f"May not `{named}` an instance that is nobody's: right where the policy "
                "is about tags, else nothing that is launched can be ended or shown",
                hint=f"Allow `{action}` to this identity; docs/aws.md has the whole policy",
            )
        return to_check(name, clients.explain(error, f"`{action}` could not be tried"))
    return Check(name=name, status="ok", detail=f"May `{action}`")


def _check_quota(clients: AwsClients, plan: AwsPlan, count: int) -> Check:
    """Compare the account's quota with what so many instances take of it."""
    market = "spot" if plan.spec.spot else "on-demand"
    quota, name = find_quota(plan.spec.instance_type, market), "aws quota"
    if quota.code is None:
        return Check(name=name, status="skipped", detail=f"`{quota.name}` has no code")
    try:
        found = clients.quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
        value = int(found["Quota"]["Value"])
        kinds: Any = clients.ec2.describe_instance_types
        types = kinds(InstanceTypes=[plan.spec.instance_type])["InstanceTypes"]
    except FAULTS as error:
        told = clients.explain(error, "x").causes[0]
        return Check(name=name, status="skipped", detail=f"`{quota.name}` is not told: {told}")
    each = types[0]["VCpuInfo"]["DefaultVCpus"]
    detail = f"`{quota.name}` ({quota.code}) is {value} vCPUs, for {value // each} instances"
    if value < each * count:
        return Check(
            name=name,
            status="failed",
            detail=detail,
            hint="Ask for more at `https://console.aws.amazon.com/servicequotas`",
        )
    return Check(name=name, status="ok", detail=detail)
