"""`envboot terminate`: end instances and remove what they left on this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from bootstrap.cli.fleets import LAUNCHES, STORE, open_fleet
from bootstrap.cli.ls import find_instances
from bootstrap.errors import EnvbootError, ProvisionError, UsageError

if TYPE_CHECKING:
    from provisioners import Instance, Provisioner


@click.command("terminate")
@LAUNCHES
@click.option("--all", "every", is_flag=True, help="End every launch that was made from here.")
@STORE
def command(launches: tuple[str, ...], *, every: bool, store: str | None) -> None:
    """End the instances of launches, or single instances, by name."""
    if bool(launches) == every:
        raise UsageError(
            "Expected the names of launches, or `--all`", hint="`envboot ls` lists them"
        )
    failures: list[ProvisionError] = []
    for provisioner, instances in _find(launches, every=every, store=store):
        try:
            provisioner.terminate(instances)
        except ProvisionError as error:
            # The others are ended all the same.
            failures.append(error)
            continue
        for instance in instances:
            click.echo(f"ended {instance.name}", err=True)
        for launch in sorted({instance.launch for instance in instances}):
            _note(launch, store)
    if len(failures) > 1:
        causes = tuple(cause for each in failures for cause in (each.message, *each.causes))
        raise ProvisionError("Failed to end some instances", causes=causes, hint=failures[0].hint)
    if failures:
        raise failures[0]


def _note(launch: str, store: str | None) -> None:
    """Leave in the bucket that a launch is over, as far as it can be reached."""
    from bootstrap.fleet import write_end

    with contextlib.suppress(EnvbootError), open_fleet(launch, store) as fleet:
        if not (fleet.provisioner and fleet.provisioner.instances(launch)):
            write_end(fleet.store, launch, "terminated")


def _find(
    names: tuple[str, ...], *, every: bool, store: str | None
) -> list[tuple[Provisioner, list[Instance]]]:
    here = find_instances()
    if every:
        return here
    found = []
    left = set(names)
    for provisioner, instances in here:
        wanted = [i for i in instances if {i.name, i.launch} & set(names)]
        left -= {name for i in wanted for name in (i.name, i.launch)}
        if wanted:
            found.append((provisioner, wanted))
    for name in sorted(left):
        # Made elsewhere, or over already: whoever knows the launch knows its instances.
        with open_fleet(name, store) as fleet:
            instances = fleet.provisioner.instances(name) if fleet.provisioner else []
            if fleet.provisioner and instances:
                found.append((fleet.provisioner, instances))
            else:
                click.echo(f"nothing of {name} is left", err=True)
    return found
