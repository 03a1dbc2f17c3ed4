"""`envboot aws`: what EC2 has beside launches."""

from __future__ import annotations

import click

from envboot.cli.options import TakesCommand
from envboot.cli.template_options import (
    TemplateArguments,
    compose,
    print_template,
    read_order,
    takes_template_options,
)
from envboot.extras import require
from envboot_provisioners.aws.options import OPTIONS


@click.group()
def command() -> None:
    """Work with EC2 beside launches."""


@command.command("launch-template", cls=TakesCommand)
@takes_template_options(
    OPTIONS, store="s3://bucket/prefix", notices="EC2's notices of interruption"
)
def launch_template(given: TemplateArguments) -> None:
    """Write the environment into the EC2 launch template NAME, for autoscaling groups and fleets.

    A change makes a new version and sets it as the default; without one nothing is made. Machines
    ask the bucket as their role (`--instance-profile`). Several subnets or zones are left to
    whoever launches from it.
    """
    from envboot.session import open_session
    from envboot.userdata import LaunchPath
    from envboot_provisioners.aws import AwsProvisioner

    session = open_session()
    provisioner = AwsProvisioner(session)
    order = read_order(
        given, provisioner, session, kind="a launch template", role="--instance-profile NAME"
    )
    require("aws", "`envboot aws launch-template`")
    from envboot_provisioners.aws.templates import check_name, put_template

    check_name(order.name)
    plan = provisioner.find_plan(order.options, by_role=True)
    contents = compose(
        order,
        provisioner=provisioner.name,
        platform=plan.platform,
        path=LaunchPath.EC2_BASE64,
        session=session,
    )
    from envboot_provisioners.aws.request import compose_template, encode_user_data

    user_data = encode_user_data(contents.document.payload, contents.document.encoding)
    launch = contents.launch
    data = compose_template(plan, name=launch, user_data=user_data, room=contents.room)
    made = put_template(provisioner.find_clients(plan.spec.region), order.name, data)
    line = f"{made.id}  version {made.version}{'' if made.made else ', unchanged'}"
    told = {"launch": launch, "region": plan.region, "environment": contents.environment}
    print_template(made, line, told, as_json=given.as_json)
