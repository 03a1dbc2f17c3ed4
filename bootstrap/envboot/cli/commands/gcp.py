"""`envboot gcp`: what Compute Engine has beside launches."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.options import TakesCommand
from envboot.cli.template_options import compose, read_order, read_own, takes_template_options
from envboot.errors import UsageError
from envboot_provisioners.gcp.options import OPTIONS

if TYPE_CHECKING:
    from envboot.selection import Selection
    from envboot_provisioners import Options


@click.group()
def command() -> None:
    """Work with Compute Engine beside launches."""


@command.command("instance-template", cls=TakesCommand)
@takes_template_options(OPTIONS, store="gs://bucket/prefix", notices="notices of preemption")
def instance_template(
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
    """Write the environment into an instance template, for managed instance groups.

    A template never changes, so its name is NAME and eight digits of what is in it; without a
    change none is made. Machines ask the bucket as their `--service-account`.
    """
    from envboot.session import open_session
    from envboot_provisioners.gcp import GcpProvisioner

    if auth == "urls":
        raise UsageError(
            "Cannot write signed URLs into an instance template: they end within seven days",
            hint="Let machines ask as their role: `--auth role --service-account EMAIL`",
        )
    session = open_session()
    provisioner = GcpProvisioner(session)
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
    from envboot_provisioners.gcp.templates import check_name, put_template

    check_name(name)
    plan = provisioner.find_plan(options, by_role=True)
    contents = compose(
        order,
        selection.placed(plan.platform),
        provisioner=provisioner.name,
        path=provisioner.render_for(options),
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
    made = put_template(provisioner.find_clients(plan.spec.project), name, properties)
    if not as_json:
        click.echo(f"{made.path}{'' if made.made else '  unchanged'}")
        return
    told = {"launch": contents.launch, "environment": contents.environment}
    console.print_json({**asdict(made), **told})
