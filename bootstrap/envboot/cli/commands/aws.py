"""`envboot aws`: what EC2 has beside launches."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.options import TakesCommand
from envboot.cli.template_options import compose, read_order, read_own, takes_template_options
from envboot.errors import UsageError
from envboot_provisioners.aws.options import OPTIONS

if TYPE_CHECKING:
    from envboot.selection import Selection
    from envboot_provisioners import Options


@click.group()
def command() -> None:
    """Work with EC2 beside launches."""


@command.command("launch-template", cls=TakesCommand)
@takes_template_options(
    OPTIONS, store="s3://bucket/prefix", notices="EC2's notices of interruption"
)
def launch_template(
    *,
    options: Options,
    name: str,
    words: tuple[str, ...],
    store: str | None,
    auth: str,
    selection: Selection,
    variables: tuple[str, ...],
    parts: tuple[str, ...],
    on_interruption: str | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Write the environment into the EC2 launch template NAME, for autoscaling groups and fleets.

    A change makes a new version and sets it as the default; without one nothing is made. Machines
    ask the bucket as their role (`--instance-profile`). Several subnets or zones are left to
    whoever launches from it.
    """
    from envboot.session import open_session
    from envboot.userdata import LaunchPath
    from envboot_provisioners.aws import AwsProvisioner

    if auth == "urls":
        raise UsageError(
            "Cannot write signed URLs into a launch template: they end within seven days",
            hint="Let machines ask as their role: `--auth role --instance-profile NAME`",
        )
    session = open_session()
    provisioner = AwsProvisioner(session)
    options, hook = read_own(provisioner, options, on_interruption, session)
    order = read_order(
        name,
        store or session.settings.store,
        words,
        variables=variables,
        parts=parts,
        hook=hook,
        fresh=fresh,
    )
    from envboot_provisioners.aws.templates import check_name, put_template

    check_name(name)
    plan = provisioner.find_plan(options, by_role=True)
    contents = compose(
        order,
        selection.placed(plan.platform),
        provisioner=provisioner.name,
        path=LaunchPath.EC2_BASE64,
        session=session,
    )
    from envboot_provisioners.aws.request import compose_template, encode_user_data

    user_data = encode_user_data(contents.document.payload, contents.document.encoding)
    launch = contents.launch
    data = compose_template(plan, name=launch, user_data=user_data, room=contents.room)
    made = put_template(provisioner.find_clients(plan.spec.region), name, data)
    if not as_json:
        click.echo(f"{made.id}  version {made.version}{'' if made.made else ', unchanged'}")
        return
    told = {"launch": launch, "region": plan.region, "environment": contents.environment}
    console.print_json({**asdict(made), **told})
