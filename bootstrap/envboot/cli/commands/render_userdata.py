"""`envboot render-userdata`: the document for an autoscaling group, a template, terraform."""

from __future__ import annotations

import base64
import re
import secrets
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from envboot.cli import console
from envboot.cli.options import (
    parse_variable,
    read_part,
    selects_environment,
    takes_imds,
    takes_secrets,
)
from envboot.command_secrets import read_secrets, refuse_places, refuse_values
from envboot.duration import parse_duration
from envboot.errors import RenderError, UsageError
from envboot.fleet.start import Delivered, Delivery, deliver
from envboot.publish.grants import Auth, Terms
from envboot.selection import Selection
from envboot.session import open_session
from envboot.store import open_store
from envboot.userdata import Document, Job, LaunchPath

if TYPE_CHECKING:
    from envboot.command_secrets import SecretOptions
    from envboot.manifest import Manifest
    from envboot.session import Session
    from envboot.userdata.contents import Imds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WATCHED = ("ec2", "ec2-base64", "terraform", "gce", "gce-startup-script")


@click.command("render-userdata")
@click.option("--manifest", type=click.Path(), help="A manifest, as `envboot lock` prints it.")
@selects_environment
@click.option(
    "--store",
    metavar="URL",
    help="The bucket, as in `s3://bucket/prefix` or `gs://bucket/prefix`.",
)
@click.option(
    "--auth",
    type=click.Choice(("urls", "role")),
    help="How the guest asks the bucket: by signed URLs, which end, or as its own role."
    "  [default: urls; `role` with `--for terraform`]",
)
@click.option(
    "--launch",
    metavar="NAME",
    help="What the guest's reports are kept under."
    "  [default: a new name; with `--auth role` `env-` and the environment]",
)
@click.option(
    "--for",
    "path",
    type=click.Choice([path.value for path in LaunchPath]),
    default=LaunchPath.EC2.value,
    show_default=True,
    help="How the document reaches the machine: its limit and encoding.",
)
@click.option("--part", "parts", multiple=True, metavar="[TYPE:]FILE", help="Add a part of yours.")
@click.option(
    "--expires",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long signed URLs live: `90s`, `15m`, `24h`, at most `7d`.",
)
@click.option(
    "--on-interruption",
    metavar="COMMAND",
    help="Let the guest look for its cloud's notices, and run this in a shell at each.",
)
@takes_imds
@click.option("--env", "variables", multiple=True, metavar="K=V", help="Set for the command.")
@takes_secrets
@click.option("-o", "--output", type=click.Path(), help="Write here rather than to stdout.")
@click.option("--explain", is_flag=True, help="Show on stderr what each part costs.")
@click.option("--json", "as_json", is_flag=True, help="Print document and costs as JSON.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def command(**given: Any) -> None:
    """Make the cloud-init user-data document for an environment.

    Without `--store` the guest installs from the indexes and channels, and publishes nothing.
    """
    _render(_Arguments(**given), open_session())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Arguments:
    """What the command line says."""

    selection: Selection
    manifest: str | None
    store: str | None
    auth: Literal["urls", "role"] | None
    launch: str | None
    path: str
    parts: tuple[str, ...]
    expires: str
    on_interruption: str | None
    imds: Imds | None
    variables: tuple[str, ...]
    secrets: SecretOptions
    output: str | None
    words: tuple[str, ...]
    explain: bool
    as_json: bool


def _render(given: _Arguments, session: Session) -> None:
    if given.manifest and given.selection != Selection():
        raise UsageError("Cannot take `--manifest` and choose an environment too")
    seconds = parse_duration(given.expires)
    path, watch = given.path, given.on_interruption is not None
    _check(path, launch=given.launch, watch=watch)
    auth = _choose_auth(path, given.auth)
    parts = [read_part(spec) for spec in given.parts]
    environment = dict(parse_variable(variable) for variable in given.variables)
    secrets = read_secrets(given.secrets, session, variables=environment, command=bool(given.words))
    refuse_values(secrets, what="user-data", cloud=LaunchPath(path).cloud)
    refuse_places(secrets, owner=f"launch path `{path}`", cloud=LaunchPath(path).cloud)
    url = given.store or session.settings.store
    _check_bucket(url, path, auth)
    if given.manifest:
        found, layer = find_manifest(given.manifest, session)
        words = given.words
    else:
        found, layer, words = _prepare(given.selection, session, path, given.words, url)
    refuse_host(found, path)
    if not url:
        _refuse_layer(found, path)
        _refuse_private(found, session)
    delivery = Delivery(
        terms=Terms(
            launch=given.launch or name_launch(found, auth),
            auth=auth,
            seconds=seconds,
            # A plan must not change because a machine has published.
            pins=path != LaunchPath.TERRAFORM.value,
        ),
        path=LaunchPath(path),
        job=Job(
            command=words,
            environment=environment,
            secrets=secrets.managed,
            watch=watch,
            hook=given.on_interruption,
            imds=given.imds,
        ),
        parts=parts,
    )
    if url:
        opened = open_store(url, session)
        with opened as store, console.task("Published to the bucket") as progress:
            delivered = deliver(
                found,
                layer,
                store,
                session,
                delivery,
                progress=progress,
                warn=console.print_notes,
            )
    else:
        delivered = deliver(found, layer, None, session, delivery)
    _print(delivered, given)


def _print(delivered: Delivered, given: _Arguments) -> None:
    """Print the document, and on stderr what was asked for about it."""
    document, expiry = delivered.document, delivered.expiry
    used = delivered.delivery.terms.auth.value if delivered.has_grants else None
    if given.explain:
        console.say(render_table(document, used), err=True)
    if expiry:
        console.say(f"Signed URLs live {expiry}", err=True)
        if expiry.is_short:
            console.say("\nhint: Let machines ask as their role: `--auth role`", err=True)
    if given.as_json:
        text = console.to_json(to_json(document, given.path, used, delivered.manifest))
        _write(f"{text}\n".encode(), given.output)
    else:
        _write(document.payload, given.output)


def _check_bucket(url: str | None, path: str, auth: Auth) -> None:
    """Refuse a bucket that machines could not use as they are to."""
    if auth is Auth.ROLE and not url:
        raise UsageError(
            "Cannot use `--for terraform` without a bucket"
            if path == LaunchPath.TERRAFORM.value
            else "Cannot use `--auth role` without a bucket",
            hint=f"Give one: `--store {_like(path)}`",
        )
    if auth is Auth.URLS and url and url.startswith("file:"):
        raise UsageError(
            f"Cannot sign URLs that outlive this command in `{url}`",
            hint=f"Give a bucket that machines can reach, as in `--store {_like(path)}`",
        )


def _refuse_layer(manifest: Manifest, path: str) -> None:
    """Refuse own code where only a bucket could carry it."""
    if manifest.layer:
        projects = manifest.layer.projects
        names = ", ".join(f"`{project.name}`" for project in projects) or "loose code"
        raise RenderError(
            f"Cannot carry the local layer ({names}) in user-data",
            hint=f"Give a bucket for it: `--store {_like(path)}`"
            + ("" if projects else ", or leave it here: `--no-loose`"),
        )


def _like(path: str) -> str:
    """Return an example of a bucket beside machines of a launch path."""
    return f"{'gs' if LaunchPath(path).is_google else 's3'}://bucket/prefix"


def _check(path: str, *, launch: str | None, watch: bool) -> None:
    """Refuse what no document for this launch path can hold."""
    if launch is not None and not _NAME.fullmatch(launch):
        raise UsageError(
            f"Expected a name of letters, digits, `.`, `_` and `-` for `--launch`, found `{launch}`"
        )
    if watch and path not in _WATCHED:
        raise UsageError(
            f"Cannot watch for notices on launch path `{path}`, which is of no cloud",
            hint="Use `--for ec2`, `--for terraform` or `--for gce`, or leave out "
            "`--on-interruption`",
        )


def refuse_host(manifest: Manifest, path: str) -> None:
    """Refuse an environment of this machine's own interpreter, which no other machine has."""
    if manifest.base.python.source == "host" and path != LaunchPath.LOCAL.value:
        raise RenderError(
            f"Cannot render for `{path}`: the manifest names this machine's own interpreter",
            causes=(f"`{manifest.base.python.executable}`",),
            hint="Lock without `--host-python`, so that the interpreter comes from a conda channel",
        )


def _choose_auth(path: str, auth: Literal["urls", "role"] | None) -> Auth:
    """Return how guests ask: what terraform keeps must not end, nor change from plan to plan."""
    if path != LaunchPath.TERRAFORM.value:
        return Auth(auth or "urls")
    if auth == "urls":
        raise UsageError(
            "Cannot put signed URLs into what terraform keeps: they end, and change with each plan",
            hint="Leave out `--auth`: machines ask as their role",
        )
    return Auth.ROLE


def name_launch(manifest: Manifest, auth: Auth) -> str:
    """Return the launch's name: with a role the same environment gives the same document."""
    if auth is Auth.ROLE:
        return f"env-{manifest.environment_digest.removeprefix('sha256:')[:12]}"
    return secrets.token_hex(4)


def _refuse_private(manifest: Manifest, session: Session) -> None:
    """Refuse what only a bucket can carry to guests, which cannot fetch it themselves."""
    from envboot.indexes.packages import find_private, note_channels

    private = find_private(manifest.base.conda, session.environment)
    if private:
        raise RenderError(
            f"Cannot carry {len(private)} conda packages in user-data, which guests cannot fetch",
            causes=tuple(f"`{note.subject}`: {note.message}" for note in note_channels(private)),
            hint="Give a bucket for them: `--store s3://bucket/prefix` or "
            "`--store gs://bucket/prefix`",
        )


def render_table(document: Document, auth: str | None = None) -> str:
    """Return what each part costs, each rung that was looked at, the limit, and who signs."""
    limit = "none" if document.limit is None else f"{document.limit:,}"
    rows = [("PART", "RAW", "COUNTS")]
    rows += [(cost.part, f"{cost.raw:,}", f"{cost.counted:,}") for cost in document.costs]
    rows.append(("total", f"{sum(cost.raw for cost in document.costs):,}", f"{document.size:,}"))
    rungs = [("RUNG", "SIZE", "")]
    for attempt in document.attempts:
        note = "chosen" if attempt.rung is document.rung else attempt.note
        size = "-" if attempt.size is None else f"{attempt.size:,}"
        name = attempt.rung.value.replace("signed URL", "role" if auth == "role" else "signed URL")
        rungs.append((name, size, note))
    lines = [*console.columns(rows, right=(1, 2)), "", *console.columns(rungs, right=(1,)), ""]
    return "\n".join([*lines, *([f"auth   {auth}"] if auth else []), f"limit  {limit}"])


def to_json(document: Document, path: str, auth: str | None, manifest: Manifest) -> dict[str, Any]:
    """Return the stable JSON of `--json`; the document itself is base64 in `document`."""
    return {
        "for": path,
        "auth": auth,
        "environment": manifest.environment_digest,
        "rung": document.rung.name.lower(),
        "encoding": document.encoding,
        "size": document.size,
        "limit": document.limit,
        "costs": [
            {"part": cost.part, "raw": cost.raw, "counts": cost.counted} for cost in document.costs
        ],
        "rungs": [
            {"rung": attempt.rung.name.lower(), "size": attempt.size, "note": attempt.note}
            for attempt in document.attempts
        ],
        "document": base64.b64encode(document.payload).decode(),
    }


def find_manifest(path: str, session: Session) -> tuple[Manifest, Path | None]:
    """Read a manifest, and find its layer where it was locked on this machine."""
    from envboot.layer import find_archive
    from envboot.source import read_manifest

    manifest = read_manifest(Path(path), session)
    return manifest, find_archive(manifest.layer, session.cache) if manifest.layer else None


def _prepare(
    selection: Selection,
    session: Session,
    path: str,
    words: tuple[str, ...],
    url: str | None,
) -> tuple[Manifest, Path | None, tuple[str, ...]]:
    from envboot.prepare import prepare_source
    from envboot.selection.required import starts_dask

    with open_store(url, session) if url else nullcontext() as store:
        prepared = prepare_source(
            selection,
            session,
            store,
            host_python=path == LaunchPath.LOCAL.value,
            command=words,
            dask=starts_dask(words),
        )
    console.print_notes(prepared.notes)
    return prepared.manifest, prepared.layer_path, prepared.command


def _write(data: bytes, output: str | None) -> None:
    binary = data[:2] == b"\x1f\x8b"
    if output is None and binary and console.is_terminal():
        raise UsageError(
            "Cannot write gzip to a terminal",
            hint="Write a file with `-o FILE`, or use `--for ec2-base64`",
        )
    if output is None or output == "-":
        console.write(data)
        return
    target = Path(output)
    # Signed URLs are credentials: only the user may read them.
    new = target.with_name(target.name + ".new")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # A pipe or a device stays what it is.
            return
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.replace(target)
    except OSError as error:
        cause = error.strerror or str(error)
        raise UsageError(f"Cannot write `{output}`", causes=(cause,)) from error
