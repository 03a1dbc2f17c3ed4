"""`envboot aws`: what EC2 has beside launches."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootstrap.cli import console
from bootstrap.cli.arguments import (
    TakesCommand,
    parse_variable,
    read_part,
    selects_environment,
)
from bootstrap.cli.own_options import add_settings, own_options, takes_own_options
from bootstrap.errors import UsageError
from provisioners.aws.options import OPTIONS

if TYPE_CHECKING:
    from bootstrap.manifest import Manifest
    from bootstrap.prepare import Prepared
    from bootstrap.selection import Selection
    from bootstrap.store import Store
    from provisioners import Options


@click.group()
def command() -> None:
    """Work with EC2 beside launches."""


@command.command("launch-template", cls=TakesCommand)
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.option("--store", metavar="URL", help="The bucket, as in `s3://bucket/prefix`.")
@click.option(
    "--auth",
    type=click.Choice(("role", "urls")),
    default="role",
    show_default=True,
    help="How machines ask the bucket. A template outlives signed URLs: `urls` is refused.",
)
@selects_environment
@click.option("--env", "variables", multiple=True, metavar="K=V", help="Set for the command.")
@click.option("--part", "parts", multiple=True, metavar="[TYPE:]FILE", help="Add a part of yours.")
@click.option(
    "--on-interruption",
    metavar="COMMAND",
    help="Let machines look for EC2's notices of interruption, and run this in a shell at each.",
)
@click.option("--fresh", is_flag=True, help="Lock again, whatever was kept.")
@takes_own_options(OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
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
    from bootstrap.config import cache_folder, read_settings
    from bootstrap.prepare import prepare
    from bootstrap.publish import read_index
    from bootstrap.required import starts_dask
    from bootstrap.room import estimate_room
    from bootstrap.store import open_store
    from bootstrap.userdata import LaunchPath, render
    from provisioners.aws import AwsProvisioner

    settings = read_settings(Path.cwd())
    url = _check(auth, store or settings.store)
    extra = [read_part(spec) for spec in parts]
    environment = dict(parse_variable(text) for text in variables)
    provisioner = AwsProvisioner()
    from provisioners.aws.templates import check_name, put_template

    check_name(name)
    # A template is by role, whatever the project says of launches.
    known = own_options(provisioner)
    own = dict(add_settings(provisioner.name, known, options, settings))
    own.pop("auth", None)
    hook = on_interruption or own.pop("on-interruption", None)
    options = own
    plan = provisioner.find_plan(options, by_role=True)
    prepared = prepare(
        selection.placed(plan.platform),
        host_python=False,
        settings=settings,
        cache=cache_folder(),
        environment=os.environ,
        command=words,
        dask=starts_dask(words),
        fresh=fresh,
    )
    console.print_notes(prepared.notes)
    manifest = prepared.manifest
    launch = name_launch(name, manifest)
    with open_store(url, settings=settings.s3) as bucket:
        grants = _publish(bucket, prepared, launch, words)
        room = estimate_room(manifest, read_index(bucket, manifest))
    document = render(
        manifest,
        launch_path=LaunchPath.EC2_BASE64,
        grants=grants,
        command=prepared.command,
        environment=environment,
        parts=extra,
        watch=hook is not None,
        hook=str(hook) if hook else None,
    )
    from provisioners.aws.request import compose_template, encode_user_data

    user_data = encode_user_data(document.payload, document.encoding)
    data = compose_template(plan, name=launch, user_data=user_data, room=room)
    made = put_template(provisioner.find_clients(plan.wish.region), name, data)
    if not as_json:
        click.echo(f"{made.id}  version {made.version}{'' if made.made else ', unchanged'}")
        return
    told = {"launch": launch, "region": plan.region, "environment": manifest.environment_digest}
    console.print_json({**asdict(made), **told})


def _check(auth: str, url: str | None) -> str:
    """Return the bucket's URL; refuse what would not outlive this command."""
    if auth == "urls":
        raise UsageError(
            "Cannot write signed URLs into a launch template: they end within seven days",
            hint="Let machines ask as their role: `--auth role --instance-profile NAME`",
        )
    if not url or url.startswith("file:"):
        raise UsageError(
            f"Expected a bucket that machines can reach, found {f'`{url}`' if url else 'none'}",
            hint="Give one, as in `--store s3://bucket/prefix`",
        )
    return url


def _publish(
    bucket: Store, prepared: Prepared, launch: str, words: tuple[str, ...]
) -> dict[str, Any]:
    from bootstrap.config import cache_folder
    from bootstrap.publish import Auth, publish

    with console.task("Published to the bucket") as progress:
        return publish(
            prepared.manifest,
            prepared.layer_path,
            bucket,
            launch=launch,
            seconds=0,  # Nothing is signed.
            cache=cache_folder(),
            environment=os.environ,
            progress=progress,
            about={"provisioner": "aws", "command": list(words)},
            auth=Auth.ROLE,
        )


def name_launch(name: str, manifest: Manifest) -> str:
    """Return what reports and tags of a template's machines have: the same for the same content."""
    digest = manifest.environment_digest.removeprefix("sha256:")
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{digest[:8]}"
