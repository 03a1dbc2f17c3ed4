"""What a cloud's template of machines holds: an environment whose machines ask as their role."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.cli.options import parse_variable, read_part, selects_environment
from envboot.cli.provisioner_options import takes_own_options
from envboot.errors import UsageError
from envboot_provisioners.option_values import add_settings, own_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot.manifest import Manifest
    from envboot.prepare import Prepared
    from envboot.selection import Selection
    from envboot.session import Session
    from envboot.store import Store
    from envboot.userdata import Document, LaunchPath
    from envboot.userdata.parts import Part
    from envboot_provisioners import Option, Options, Provisioner


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateOrder:
    """What the user wants in a template; `parts` and `environment` are read already."""

    name: str
    store: str
    command: tuple[str, ...]
    environment: dict[str, str]
    parts: tuple[Part, ...]
    hook: str | None
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
    """Give a command what all templates take, and the provisioner's own as one `options`.

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
        click.option(
            "--part", "parts", multiple=True, metavar="[TYPE:]FILE", help="Add a part of yours."
        ),
        click.option(
            "--on-interruption",
            metavar="COMMAND",
            help=f"Let machines look for {notices}, and run this in a shell at each.",
        ),
        click.option("--fresh", is_flag=True, help="Lock again, whatever was kept."),
        takes_own_options(options),
        click.option("--json", "as_json", is_flag=True, help="Print a stable JSON document."),
    )

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def read_order(
    name: str,
    store: str | None,
    words: Sequence[str],
    *,
    variables: Sequence[str],
    parts: Sequence[str],
    hook: str | None,
    fresh: bool,
) -> TemplateOrder:
    """Read what the command line says.

    Raises:
        UsageError: no bucket that machines reach, or what is given cannot be read.
    """
    if not store or store.startswith("file:"):
        raise UsageError(
            f"Expected a bucket that machines can reach, found {f'`{store}`' if store else 'none'}",
            hint="Give one, as in `--store s3://bucket/prefix` or `--store gs://bucket/prefix`",
        )
    return TemplateOrder(
        name=name,
        store=store,
        command=tuple(words),
        environment=dict(parse_variable(text) for text in variables),
        parts=tuple(read_part(spec) for spec in parts),
        hook=hook,
        fresh=fresh,
    )


def read_own(
    provisioner: Provisioner, given: Options, hook: str | None, session: Session
) -> tuple[Options, str | None]:
    """Return the provisioner's options and the hook, beneath both what the project sets.

    A template is by role, whatever the project says of launches.
    """
    own = dict(add_settings(provisioner.name, own_options(provisioner), given, session.settings))
    own.pop("auth", None)
    set_hook = own.pop("on-interruption", None)
    return own, hook or (str(set_hook) if set_hook else None)


def compose(
    order: TemplateOrder,
    selection: Selection,
    *,
    provisioner: str,
    path: LaunchPath,
    session: Session,
) -> TemplateContents:
    """Lock, publish and render the environment for a launch path of the provisioner's."""
    from envboot.fleet.disk import estimate_room
    from envboot.prepare import prepare_source
    from envboot.publish import read_index
    from envboot.selection.required import starts_dask
    from envboot.store import open_store
    from envboot.userdata import render

    with open_store(order.store, session) as bucket:
        bucket.check(signs=False)
        prepared = prepare_source(
            selection,
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
        about = {"provisioner": provisioner, "command": list(order.command)}
        grants = _publish(bucket, session, prepared, launch, about)
        room = estimate_room(manifest, read_index(bucket, manifest))
    document = render(
        manifest,
        launch_path=path,
        grants=grants,
        command=prepared.command,
        environment=order.environment,
        parts=order.parts,
        watch=order.hook is not None,
        hook=order.hook,
    )
    return TemplateContents(
        launch=launch, document=document, room=room, environment=manifest.environment_digest
    )


def _publish(
    bucket: Store, session: Session, prepared: Prepared, launch: str, about: dict[str, Any]
) -> dict[str, Any]:
    from envboot.publish import Auth, publish

    with console.task("Published to the bucket") as progress:
        return publish(
            prepared.manifest,
            prepared.layer_path,
            bucket,
            launch=launch,
            seconds=0,  # Nothing is signed.
            cache=session.cache,
            environment=session.environment,
            progress=progress,
            about=about,
            auth=Auth.ROLE,
        )


def name_launch(name: str, manifest: Manifest) -> str:
    """Return what reports and tags of a template's machines have: the same for the same content."""
    digest = manifest.environment_digest.removeprefix("sha256:")
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{digest[:8]}"
