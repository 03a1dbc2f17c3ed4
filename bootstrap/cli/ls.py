"""`envboot ls`: what was started from this machine and is still there."""

from __future__ import annotations

import click

from bootstrap.cli import console
from provisioners import Instance, Provisioner, load_provisioner, provisioner_names


def find_instances() -> list[tuple[Provisioner, Instance]]:
    """Return every instance of every provisioner that is installed."""
    made = [load_provisioner(name) for name in provisioner_names()]
    return [(provisioner, instance) for provisioner in made for instance in provisioner.instances()]


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def command(*, as_json: bool) -> None:
    """List the instances that were started from here and not ended yet."""
    rows = [
        {
            "name": instance.name,
            "provisioner": provisioner.name,
            "state": "running" if provisioner.is_running(instance) else "idle",
            "folder": str(instance.folder) if instance.folder else None,
        }
        for provisioner, instance in find_instances()
    ]
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['provisioner']:<6} {row['state']:<8} {row['folder']}")
