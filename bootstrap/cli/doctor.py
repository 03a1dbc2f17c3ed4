"""`envboot doctor`: try what launches do, and say what stands in the way."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootstrap.cli import console
from bootstrap.config import read_settings
from bootstrap.doctor import Check, check_store
from bootstrap.errors import StoreError, name_some
from provisioners import load_provisioner, provisioner_names, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": None}


@click.command("doctor")
@click.argument("provisioner", required=False, type=click.Choice(provisioner_names()))
@click.option(
    "--store",
    metavar="URL",
    help="The bucket: `s3://bucket/prefix` or `file:///folder`."
    "  [default: `tool.envboot.store`, else a folder of this user]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def command(*, provisioner: str | None, store: str | None, as_json: bool) -> None:
    """Try every permission that launches need in the bucket, and explain what fails.

    What is written for that is removed again. With PROVISIONER its platform is checked too.
    """
    settings = read_settings(Path.cwd())
    # The one character of a path that means something else in such a URL.
    folder = str(state_folder() / "store").replace("%", "%25")
    url = store or settings.store or f"file://{folder}"
    checks = []
    if not as_json:
        click.echo(f"{url}\n")
    for check in _check(url, provisioner, settings):
        checks.append(check)
        if not as_json:
            _print(check)
    failed = [check.name for check in checks if check.status == "failed"]
    if as_json:
        console.print_json({"store": url, "checks": [asdict(check) for check in checks]})
    else:
        numbers = {status: sum(c.status == status for c in checks) for status in _COLOURS}
        counted = [
            console.count(number, status) if status == "warning" else f"{number} {status}"
            for status, number in numbers.items()
            if number
        ]
        click.echo("\n" + ", ".join(counted))
    if failed:
        raise StoreError(f"Expected every check to pass, failed: {name_some(failed)}")


def _check(url: str, provisioner: str | None, settings: Any) -> Iterator[Check]:
    yield from check_store(url, settings.s3, lambda: datetime.now(timezone.utc))
    if provisioner:
        doctor = getattr(load_provisioner(provisioner), "doctor", None)
        if doctor:
            yield from doctor({})
        else:
            yield Check(name=provisioner, status="skipped", detail="It has nothing to check")


def _print(check: Check) -> None:
    click.secho(f"{check.status:<9}", fg=_COLOURS[check.status], nl=False)
    click.echo(f"{check.name:<17}  {check.detail}")
    if check.hint:
        click.echo(f"{'':<9}{'hint':<17}  {check.hint}")
