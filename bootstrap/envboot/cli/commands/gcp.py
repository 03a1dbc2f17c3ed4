"""`envboot gcp`: what Compute Engine has beside launches."""

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
from envboot_provisioners.gcp.options import OPTIONS


@click.group()
def command() -> None:
    """Work with Compute Engine beside launches."""


@command.command("instance-template", cls=TakesCommand)
@takes_template_options(OPTIONS, store="gs://bucket/prefix", notices="notices of preemption")
def instance_template(given: TemplateArguments) -> None:
    """Write the environment into an instance template, for managed instance groups.

    A template never changes, so its name is NAME and eight digits of what is in it; without a
    change none is made. Machines ask the bucket as their `--service-account`.
    """
    from envboot.session import open_session
    from envboot_provisioners.gcp import GcpProvisioner

    session = open_session()
    provisioner = GcpProvisioner(session)
    order = read_order(
        given, provisioner, session, kind="an instance template", role="--service-account EMAIL"
    )
    require("gcp", "`envboot gcp instance-template`")
    from envboot_provisioners.gcp.templates import check_name, put_template

    check_name(order.name)
    plan = provisioner.find_plan(order.options, by_role=True)
    contents = compose(
        order,
        provisioner=provisioner.name,
        platform=plan.platform,
        path=provisioner.render_for(order.options),
        session=session,
    )
    from envboot_provisioners.gcp.request import compose_metadata, compose_properties

    metadata = compose_metadata(
        contents.document.payload,
        cloud_init=plan.spec.has_cloud_init,
        encoding=contents.document.encoding,
    )
    market = "spot" if plan.spec.spot else "standard"
    properties = compose_properties(
        plan, contents.launch, metadata=metadata, room=contents.room, market=market
    )
    made = put_template(provisioner.find_clients(plan.spec.project), order.name, properties)
    line = f"{made.path}{'' if made.made else '  unchanged'}"
    told = {"launch": contents.launch, "environment": contents.environment}
    print_template(made, line, told, as_json=given.as_json)
