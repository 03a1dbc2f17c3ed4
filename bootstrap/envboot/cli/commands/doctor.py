"""`envboot doctor`: try what launches do, and say what stands in the way."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from envboot.cli import console
from envboot.cli.provisioner_options import read_own_options
from envboot.doctor import check_store
from envboot.errors import StoreError, name_some
from envboot.session import open_session
from envboot_provisioners import load_provisioner, provisioner_names
from envboot_provisioners.option_values import add_settings, own_options, split_cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.doctor.check import Check
    from envboot.session import Session
    from envboot_provisioners import Options, Provisioner

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": None}


class Doctor(click.Command):
    """A command that leaves the options of a provisioner to that one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read our own options; whatever else there is belongs to the provisioner."""
        ctx.ignore_unknown_options = True
        return super().parse_args(ctx, args)


@click.command("doctor", cls=Doctor)
@click.argument("provisioner", required=False, type=click.Choice(provisioner_names()))
@click.argument("own", nargs=-1, type=click.UNPROCESSED, metavar="[ITS OPTIONS]")
@click.option(
    "--store",
    metavar="URL",
    help="The bucket: `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`."
    "  [default: `tool.envboot.store`, else a folder of this user]",
)
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="For how many instances a quota of the platform must be enough.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document.")
def command(
    *, provisioner: str | None, own: tuple[str, ...], store: str | None, count: int, as_json: bool
) -> None:
    """Try every permission that launches need in the bucket, and explain what fails.

    What is written for that is removed again. With PROVISIONER its platform is checked too, for
    a launch with the same options of its own: `envboot doctor aws --instance-type m6i.large`.
    """
    session = open_session()
    made = load_provisioner(provisioner, session) if provisioner else None
    known = own_options(made) if made else ()
    options = read_own_options(f"envboot doctor {provisioner or ''}".rstrip(), known, list(own))
    if made:
        options = add_settings(made.name, known, options, session.settings)
    url = store or session.store
    checks = []
    if not as_json:
        console.say(f"{url}\n")
    for check in _check(url, session, made, options, count=count):
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
        console.say("\n" + ", ".join(counted))
    if failed:
        raise StoreError(f"Expected every check to pass, failed: {name_some(failed)}")


def _check(
    url: str, session: Session, provisioner: Provisioner | None, options: Options, *, count: int
) -> Iterator[Check]:
    yield from check_store(url, session, lambda: datetime.now(timezone.utc))
    if provisioner:
        cloud, own = split_cloud(options)
        by_role = cloud.auth == "role"
        yield from provisioner.doctor(own, by_role=by_role, count=count)


def _print(check: Check) -> None:
    console.say_word(f"{check.status:<9}", _COLOURS[check.status])
    console.say(f"{check.name:<17}  {check.detail}")
    if check.hint:
        console.say(f"{'':<9}{'hint':<17}  {check.hint}")
