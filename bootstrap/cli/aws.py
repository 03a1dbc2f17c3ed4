"""`envboot aws`: what EC2 has beside launches."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootstrap.cli import console
from bootstrap.cli.arguments import parse_variable, read_part, selects_environment
from bootstrap.cli.launch import _parameter, _to_click
from bootstrap.errors import UsageError
from provisioners.aws.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootstrap.manifest import Manifest
    from bootstrap.selection import Selection
    from bootstrap.store import Store
    from provisioners import Options


@click.group()
def command() -> None:
    """Work with EC2 beside launches."""


def takes_ec2_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of `launch aws`, as one `options`."""

    def wrapped(**given: Any) -> None:
        own = {option.name: given.pop(_parameter(option)) for option in OPTIONS}
        function(options={name: value for name, value in own.items() if value}, **given)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    made: Any = wrapped
    made.__click_params__ = getattr(function, "__click_params__", [])
    for option in reversed(OPTIONS):
        made = _to_click(option)(made)
    result: Callable[..., None] = made
    return result


@command.command("launch-template")
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
@takes_ec2_options
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
    from bootstrap.publish import Auth, publish
    from bootstrap.required import starts_dask
    from bootstrap.room import estimate_room
    from bootstrap.store import open_store
    from bootstrap.userdata import LaunchPath, render
    from provisioners.aws import AwsProvisioner

    if auth == "urls":
        raise UsageError(
            "Cannot write signed URLs into a launch template: they end within seven days",
            hint="Let machines ask as their role: `--auth role --instance-profile NAME`",
        )
    settings = read_settings(Path.cwd())
    url = store or settings.store
    if not url or url.startswith("file:"):
        raise UsageError(
            f"Expected a bucket that machines can reach, found {f'`{url}`' if url else 'none'}",
            hint="Give one, as in `--store s3://bucket/prefix`",
        )
    extra = [read_part(spec) for spec in parts]
    environment = dict(parse_variable(text) for text in variables)
    provisioner = AwsProvisioner()
    from provisioners.aws.templates import check_name, put_template

    check_name(name)
    plan = provisioner.find_plan(options, by_role=True)
    prepared = prepare(
        _place(selection, plan.platform),
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
    with open_store(url) as bucket, console.task("Published to the bucket") as progress:
        grants = publish(
            manifest,
            prepared.layer_path,
            bucket,
            launch=launch,
            seconds=0,
            cache=cache_folder(),
            environment=os.environ,
            progress=progress,
            about={"provisioner": "aws", "command": list(words)},
            auth=Auth.ROLE,
        )
        room = estimate_room(manifest, _read_index(bucket, manifest))
    document = render(
        manifest,
        launch_path=LaunchPath.EC2_BASE64,
        grants=grants,
        command=prepared.command,
        environment=environment,
        parts=extra,
        watch=on_interruption is not None,
        hook=on_interruption,
    )
    from provisioners.aws.request import compose_template, encode_user_data

    user_data = encode_user_data(document.payload, document.encoding)
    data = compose_template(plan, name=launch, user_data=user_data, room=room)
    made = put_template(provisioner.find_clients(plan.wish.region), name, data)
    if as_json:
        console.print_json(
            {
                "id": made.id,
                "name": made.name,
                "version": made.version,
                "made": made.made,
                "launch": launch,
                "region": plan.region,
                "environment": manifest.environment_digest,
            }
        )
        return
    click.echo(f"{made.id}  version {made.version}{'' if made.made else ', unchanged'}")


def name_launch(name: str, manifest: Manifest) -> str:
    """Return what reports and tags of a template's machines have: the same for the same content."""
    digest = manifest.environment_digest.removeprefix("sha256:")
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{digest[:8]}"


def _place(selection: Selection, platform: str) -> Selection:
    """Return the selection for machines of a platform, unless the user wants another one."""
    from dataclasses import replace

    if selection.platform not in (None, platform):
        raise UsageError(
            f"Cannot make a template for `{selection.platform}`: the instance type is `{platform}`",
            hint="Leave `--platform` out, or choose another `--instance-type`",
        )
    return replace(selection, platform=platform)


def _read_index(bucket: Store, manifest: Manifest) -> dict[str, Any] | None:
    """Return the index of the published archive, where there is one."""
    from bootstrap.publish import Keys

    data = bucket.read(f"{Keys(manifest).base}/index.json")
    try:
        found = json.loads(data) if data else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"raw", "size"} <= found.keys() else None
