"""What a cloud's template of machines holds: an environment whose machines ask as their role."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.options import (
    parse_variable,
    read_part,
    selects_environment,
    takes_imds,
    takes_secrets,
)
from envboot.cli.provisioner_options import takes_own_options
from envboot.command_secrets import read_secrets, refuse_places, refuse_values
from envboot.errors import UsageError
from envboot_provisioners.option_values import add_settings, own_options, split_cloud

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from envboot.command_secrets import SecretOptions
    from envboot.manifest import Manifest
    from envboot.selection import Selection
    from envboot.session import Session
    from envboot.userdata import Document, LaunchPath
    from envboot.userdata.contents import Imds
    from envboot.userdata.parts import Part
    from envboot_provisioners import Option, Options, Provisioner


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateArguments:
    """What the command line of a template says, as click reads it."""

    name: str
    words: tuple[str, ...]
    store: str | None
    auth: str
    selection: Selection
    variables: tuple[str, ...]
    secrets: SecretOptions
    parts: tuple[str, ...]
    on_interruption: str | None
    fresh: bool
    options: Options
    as_json: bool
    imds: Imds | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateOrder:
    """What the user wants in a template, beneath it what the project sets.

    `parts` and `environment` are read already; `secrets` are places of the machines' cloud by name,
    `options` the provisioner's own.
    """

    name: str
    store: str
    selection: Selection
    command: tuple[str, ...]
    environment: dict[str, str]
    secrets: Mapping[str, str]
    parts: tuple[Part, ...]
    options: Options
    hook: str | None
    imds: Imds | None
    fresh: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateContents:
    """The user-data, the bytes of disk that the environment may need, and the reports' name."""

    launch: str
    document: Document
    room: int
    environment: str


def takes_template_options(
    options: Sequence[Option], *, store: str, notices: str
) -> Callable[[Any], Any]:
    """Give a command what all templates take, and the provisioner's own, as `TemplateArguments`.

    `store` is an example of a bucket's URL, `notices` what its cloud tells machines of.
    """
    decorators = (
        click.argument("name"),
        click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]"),
        click.option("--store", metavar="URL", help=f"The bucket, as in `{store}`."),
        click.option(
            "--auth",
            type=click.Choice(("role", "urls")),
            default="role",
            show_default=True,
            help="How machines ask the bucket. A template outlives signed URLs: `urls` is refused.",
        ),
        selects_environment,
        click.option(
            "--env", "variables", multiple=True, metavar="K=V", help="Set for the command."
        ),
        takes_secrets,
        click.option(
            "--part", "parts", multiple=True, metavar="[TYPE:]FILE", help="Add a part of yours."
        ),
        click.option(
            "--on-interruption",
            metavar="COMMAND",
            help=f"Let machines look for {notices}, and run this in a shell at each.",
        ),
        takes_imds,
        click.option("--fresh", is_flag=True, help="Lock again, whatever was kept."),
        takes_own_options(options),
        click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document."),
    )

    def decorate(function: Callable[[TemplateArguments], None]) -> Any:
        def wrapped(**given: Any) -> None:
            function(TemplateArguments(**given))

        wrapped.__doc__ = function.__doc__
        made: Any = wrapped
        for decorator in reversed(decorators):
            made = decorator(made)
        return made

    return decorate


def read_order(
    given: TemplateArguments, provisioner: Provisioner, session: Session, *, kind: str, role: str
) -> TemplateOrder:
    """Read what the command line says, and beneath it what the project sets.

    `kind` is what the template is called, `role` the option that gives machines one. A template
    is by role, whatever the project says of launches.

    Raises:
        UsageError: it is to hold signed URLs, there is no bucket that machines reach, or what is
            given cannot be read.
    """
    if given.auth == "urls":
        raise UsageError(
            f"Cannot write signed URLs into {kind}: they end within seven days",
            hint=f"Let machines ask as their role: `--auth role {role}`",
        )
    known = own_options(provisioner)
    cloud, own = split_cloud(add_settings(provisioner.name, known, given.options, session.settings))
    store = given.store or session.settings.store
    if not store or store.startswith("file:"):
        raise UsageError(
            f"Expected a bucket that machines can reach, found {f'`{store}`' if store else 'none'}",
            hint="Give one, as in `--store s3://bucket/prefix` or `--store gs://bucket/prefix`",
        )
    environment = dict(parse_variable(text) for text in given.variables)
    secrets = read_secrets(given.secrets, session, variables=environment, command=bool(given.words))
    refuse_values(secrets, what=kind, cloud=provisioner.role)
    refuse_places(secrets, owner=f"`{provisioner.name}`", cloud=provisioner.role)
    return TemplateOrder(
        name=given.name,
        store=store,
        selection=given.selection,
        command=given.words,
        environment=environment,
        secrets=secrets.managed,
        parts=tuple(read_part(spec) for spec in given.parts),
        options=own,
        hook=given.on_interruption or cloud.hook,
        imds=given.imds or cloud.imds,
        fresh=given.fresh,
    )


def compose(
    order: TemplateOrder, *, provisioner: str, platform: str, path: LaunchPath, session: Session
) -> TemplateContents:
    """Lock, publish and render the environment for machines of a platform and launch path.

    Raises:
        EnvbootError: it cannot be read, locked, built, published, or rendered for that path.
    """
    from envboot.fleet.disk import find_disk
    from envboot.fleet.start import Delivery, deliver
    from envboot.prepare import prepare_source
    from envboot.publish.grants import Auth, Terms
    from envboot.publish.launch_record import Origin
    from envboot.selection.required import starts_dask
    from envboot.store import open_store
    from envboot.userdata import Job

    with open_store(order.store, session) as bucket:
        bucket.check(signs=False)
        prepared = prepare_source(
            order.selection.placed(platform),
            session,
            bucket,
            host_python=False,
            command=order.command,
            dask=starts_dask(order.command),
            fresh=order.fresh,
        )
        console.print_notes(prepared.notes)
        manifest = prepared.manifest
        launch = name_launch(order.name, manifest)
        delivery = Delivery(
            terms=Terms(launch=launch, auth=Auth.ROLE),
            path=path,
            job=Job(
                command=prepared.command,
                environment=order.environment,
                secrets=order.secrets,
                watch=order.hook is not None,
                hook=order.hook,
                imds=order.imds,
            ),
            parts=order.parts,
            origin=Origin(provisioner=provisioner, command=order.command),
        )
        with console.task("Published to the bucket") as progress:
            delivered = deliver(
                manifest,
                prepared.layer_path,
                bucket,
                session,
                delivery,
                progress=progress,
                warn=console.print_notes,
            )
        room = find_disk(bucket, manifest)
    return TemplateContents(
        launch=launch,
        document=delivered.document,
        room=room,
        environment=manifest.environment_digest,
    )


def name_launch(name: str, manifest: Manifest) -> str:
    """Return what reports and tags of a template's machines have: the same for the same content."""
    digest = manifest.environment_digest.removeprefix("sha256:")
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{digest[:8]}"


def print_template(made: Any, line: str, told: dict[str, str], *, as_json: bool) -> None:
    """Print what was made: one line, or its record together with what else is told of it."""
    if as_json:
        console.print_json({**asdict(made), **told})
    else:
        console.say(line)
