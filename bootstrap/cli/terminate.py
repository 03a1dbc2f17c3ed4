"""`envboot terminate`: end instances and remove what they left on this machine."""

from __future__ import annotations

import click

from bootstrap.cli.ls import find_instances
from bootstrap.errors import UsageError


def _complete(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    del ctx, parameter
    launches = {instance.name.rpartition("-")[0] for _, instance in find_instances()}
    return sorted(name for name in launches if name.startswith(text))


@click.command("terminate")
@click.argument("launches", nargs=-1, metavar="LAUNCH…", shell_complete=_complete)
@click.option("--all", "every", is_flag=True, help="End every launch that was made from here.")
def command(launches: tuple[str, ...], *, every: bool) -> None:
    """End the instances of launches, or single instances, by name."""
    if bool(launches) == every:
        raise UsageError(
            "Expected the names of launches, or `--all`", hint="`envboot ls` lists them"
        )
    found = [
        (provisioner, instance)
        for provisioner, instance in find_instances()
        if every or {instance.name, instance.name.rpartition("-")[0]} & set(launches)
    ]
    names = {name for _, i in found for name in (i.name, i.name.rpartition("-")[0])}
    unknown = [name for name in launches if name not in names]
    if unknown:
        raise UsageError(f"Unknown launch `{unknown[0]}`", hint="`envboot ls` lists them")
    for provisioner, instance in found:
        provisioner.terminate([instance])
        click.echo(f"ended {instance.name}", err=True)
