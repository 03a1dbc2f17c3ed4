"""`envboot ls`: what was started from this machine and is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bootstrap.cli import console
from bootstrap.cli.fleets import JSON
from bootstrap.errors import ProvisionError
from bootstrap.launches import read_records
from provisioners import load_provisioner, provisioner_names, state_folder

if TYPE_CHECKING:
    from provisioners import Instance, Provisioner


def find_instances() -> list[tuple[Provisioner, list[Instance]]]:
    """Return every instance from here, by provisioner; one that cannot be asked is told about."""
    found = []
    for name in provisioner_names():
        provisioner = load_provisioner(name)
        try:
            found.append((provisioner, provisioner.instances()))
        except ProvisionError as error:
            way = f" ({error.hint})" if error.hint else ""
            console.print_warning(f"`{name}` is left out: {error.message}{way}")
    return found


@click.command("ls")
@click.option("--past", is_flag=True, help="List the launches of the last 30 days instead.")
@JSON
def command(*, past: bool, as_json: bool) -> None:
    """List the instances that were started from here and not ended yet."""
    if past:
        records = read_records(state_folder())
        if as_json:
            members = ("launch", "provisioner", "store")
            console.print_json([{name: getattr(r, name) for name in members} for r in records])
        elif records:
            names = [(r.launch, r.provisioner, r.store) for r in records]
            click.echo("\n".join(console.columns([("LAUNCH", "PROVISIONER", "STORE"), *names])))
        return
    found = []
    for provisioner, instances in find_instances():
        states = provisioner.states(instances)
        found += [(provisioner, instance, states[instance.name]) for instance in instances]
    if as_json:
        console.print_json(
            [
                {
                    "name": instance.name,
                    "launch": instance.launch,
                    "provisioner": provisioner.name,
                    "state": state.word,
                    "folder": str(instance.folder) if instance.folder else None,
                    "details": dict(instance.details),
                }
                for provisioner, instance, state in found
            ]
        )
    elif found:
        rows = [
            (i.name, i.launch, p.name, s.word, str(i.folder or " ".join(i.details.values())))
            for p, i, s in found
        ]
        head = ("INSTANCE", "LAUNCH", "PROVISIONER", "STATE", "")
        click.echo("\n".join(console.columns([head, *rows])))
