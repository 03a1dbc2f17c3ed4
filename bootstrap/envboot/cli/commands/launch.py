"""`envboot launch`: your environment on machines, a command in it, and what each step took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console, timings
from envboot.cli.launch_argument import takes_timeout
from envboot.cli.on_done import tells_the_end
from envboot.cli.options import selects_environment, takes_secrets
from envboot.cli.provisioner_options import takes_own_options
from envboot.cli.result_options import (
    OutputOptions,
    finish_launch,
    raise_unsent,
    read_output,
    rescue,
    takes_output,
    to_document,
)
from envboot.errors import UsageError
from envboot.session import open_session
from envboot_provisioners import load_provisioner, provisioner_names
from envboot_provisioners.option_values import add_settings, own_options, split_cloud

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.command_secrets import SecretOptions
    from envboot.fleet.fetching import Fetched
    from envboot.fleet.launch import Launched, Order
    from envboot.fleet.life import Lifetime
    from envboot.selection import Selection
    from envboot.session import Session
    from envboot_provisioners import Options, Provisioner

_DOES = """\
With no command the instances come up and stay. With one they are terminated when it has exited;
its output is printed here, and envboot exits with its exit code. What is piped or redirected into
envboot is its standard input.
"""
_OPTIONS = (
    click.option(
        "--count",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        metavar="N",
        help="How many instances.",
    ),
    click.option(
        "--store",
        metavar="URL",
        help="The bucket: `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`."
        "  [default: `tool.envboot.store`, else a folder of this user]",
    ),
    selects_environment,
    click.option("--env", "variables", multiple=True, metavar="K=V", help="Set for the command."),
    takes_secrets,
    takes_output,
    click.option(
        "--part",
        "parts",
        multiple=True,
        metavar="[TYPE:]FILE",
        help="Add a part of yours to user-data: `cloud-config:my.yaml`, or a script.",
    ),
    takes_timeout(
        "How long the instances may take, command included."
        "  [default: half an hour to be ready; the command as long as it likes]"
    ),
    click.option(
        "--max-life",
        metavar="DURATION",
        help="When the instances end by themselves, whatever happens: `12h`, `30d`, `never`."
        "  [default: 7d with a command, else 24h]",
    ),
    click.option(
        "--idle",
        metavar="DURATION",
        help="End them as well when nothing has run on them for so long: no command, no connection "
        "to them, no load.",
    ),
    click.option(
        "--expires",
        metavar="DURATION",
        help="How long signed URLs live: `90s`, `15m`, `24h`, at most `7d`."
        "  [default: as long as the instances may]",
    ),
    click.option(
        "--keep", is_flag=True, help="Leave the instances, whatever happens, for a look inside."
    ),
    click.option(
        "--detach",
        is_flag=True,
        help="Return once the instances are started; `envboot attach` comes back to them.",
    ),
    click.option(
        "--stdin/--no-stdin",
        "stdin",
        default=None,
        help="Send standard input to its end, or not at all."
        "  [default: a file, or a pipe that says something within a second]",
    ),
    tells_the_end,
    click.option("-q", "--quiet", is_flag=True, help="Print the command's output and errors only."),
    click.option("--timings", "with_timings", is_flag=True, help="Print what every step took."),
    click.option(
        "--raw",
        is_flag=True,
        help="Print the command's escape sequences, as of colours, as they are on a terminal.",
    ),
    click.option("--fresh", is_flag=True, help="Lock again, whatever was kept."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the outcome as JSON, output included."
    ),
)


class Launchers(click.Group):
    """One subcommand a provisioner, with the options that its instances have."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the installed provisioners."""
        del ctx
        return provisioner_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Make the command of one provisioner.

        Raises:
            UsageError: none of that name is installed.
        """
        del ctx
        return make_command(load_provisioner(cmd_name, open_session()))


@click.group(
    "launch",
    cls=Launchers,
    options_metavar="",
    subcommand_metavar="PROVISIONER [OPTIONS] [-- COMMAND…]",
)
def command() -> None:
    """Run a command in your environment, on one or many machines.

    PROVISIONER makes them: `local` folders of this machine, `qemu` virtual machines on it, `aws`
    instances of EC2, `gcp` those of Compute Engine. Each has options of its own:
    `envboot launch aws --help`.
    """


def make_command(provisioner: Provisioner) -> click.Command:
    """Return a command with the options that all launches have, and those of the provisioner."""

    def callback(**given: Any) -> None:
        launch_on(provisioner, Arguments(**given), open_session())

    made: Any = callback
    made = click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")(
        made
    )
    for option in reversed(_OPTIONS):
        made = option(made)
    made = takes_own_options(own_options(provisioner))(made)
    words = f"Run a command in your environment on `{provisioner.name}`.\n\n{_DOES}"
    return click.command(provisioner.name, help=words)(made)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """What the command line says; `options` are the provisioner's own."""

    options: Options
    command: tuple[str, ...]
    count: int
    store: str | None
    selection: Selection
    variables: tuple[str, ...]
    secrets: SecretOptions
    output: OutputOptions
    parts: tuple[str, ...]
    timeout: float | None
    max_life: str | None
    idle: str | None
    expires: str | None
    keep: bool
    fresh: bool
    raw: bool
    as_json: bool
    detach: bool
    stdin: bool | None
    on_done: str | None
    notify: str | None
    quiet: bool
    with_timings: bool


def launch_on(provisioner: Provisioner, given: Arguments, session: Session) -> None:
    """Launch on one provisioner, and print what became of it."""
    from envboot.cli.on_done import Teller
    from envboot.cli.printer import View
    from envboot.cli.progress import Screen
    from envboot.fleet.homecoming import raise_failed
    from envboot.fleet.launch import launch
    from envboot.fleet.outcomes import raise_command_failures
    from envboot.store import open_store

    url = given.store or session.store
    _check_detach(provisioner, given, url)
    teller = Teller(session, given.on_done, given.notify)
    order = _read_order(provisioner, given, session, url)
    loopback = provisioner.guest_loopback or "127.0.0.1"
    opened = open_store(url, session, guest_loopback=loopback)
    view = None if given.as_json else View(raw=given.raw)
    screen = Screen(quiet=given.quiet or given.as_json, view=view, teller=teller)
    with teller.telling():
        with opened as bucket, screen:
            try:
                launched = launch(provisioner, bucket, order, session, screen)
            except BaseException as error:
                if screen.fleet and screen.fleet.instances:
                    is_interrupt = isinstance(error, KeyboardInterrupt)
                    rescue(screen.fleet, session, given.output.into, interrupted=is_interrupt)
                raise
            screen.flush(launched.outcomes)
            assert screen.fleet
            # Nobody waits for what a detached command makes.
            found = (
                []
                if given.detach
                else finish_launch(
                    screen.fleet,
                    launched.outcomes,
                    session,
                    given.output.into,
                    made_in=session.folder,
                    quiet=given.as_json or given.quiet,
                )
            )
        _print_launched(launched, given, url, found)
        if given.command and not given.detach:
            raise_command_failures(launched.outcomes)
        raise_unsent(launched.outcomes)
        raise_failed(found)


def _check_detach(provisioner: Provisioner, given: Arguments, url: str) -> None:
    """Refuse `--detach` where machines need this process, or nobody would do what is asked for."""
    if not given.detach:
        return
    if given.on_done or given.notify:
        raise UsageError(
            "Cannot use `--on-done` or `--notify` with `--detach`: nobody waits for the end",
            hint="Give them to `envboot attach`",
        )
    if url.startswith("file:"):
        raise UsageError(
            f"Cannot detach from instances that use the bucket `{url}`",
            causes=("This process serves it to them",),
            hint="Name a bucket that needs no client (`--store s3://…` or `gs://…`), or leave this "
            "process running: `nohup envboot launch … &`, then `envboot attach`",
        )
    if not (provisioner.is_remote or provisioner.name == "local"):
        raise UsageError(
            f"Cannot detach from instances of `{provisioner.name}`",
            causes=("This process gives them their user-data",),
            hint="Leave it running: `nohup envboot launch … &`, then `envboot attach`",
        )


def _print_launched(
    launched: Launched, given: Arguments, url: str, found: Sequence[Fetched]
) -> None:
    if given.as_json:
        console.print_json(timings.to_document(launched) | {"results": to_document(found)})
    elif given.detach:
        name = launched.launch
        console.say(name)
        console.say(
            f"\nhint: `envboot attach {name}` shows its output and terminates it in the end, "
            f"`envboot status {name}` shows its state, `envboot terminate {name}` stops it",
            err=True,
        )
    elif not given.quiet:
        text = timings.render(launched) if given.with_timings else timings.summarize(launched)
        console.say(text, err=True)
        _print_cure(launched, url)
        if launched.kept:
            _print_kept(launched)


def _read_order(provisioner: Provisioner, given: Arguments, session: Session, url: str) -> Order:
    """Read what the command line and the project's settings say.

    Raises:
        UsageError: it makes no sense, or machines could not reach the bucket.
    """
    from envboot.cli.options import parse_variable, read_part
    from envboot.cli.standard_input import find_input
    from envboot.command_secrets import read_secrets
    from envboot.duration import parse_duration
    from envboot.fleet.launch import Order
    from envboot.publish.grants import Auth
    from envboot.selection.required import starts_dask
    from envboot.userdata import LaunchPath

    known = own_options(provisioner)
    options = add_settings(provisioner.name, known, given.options, session.settings)
    cloud, own = split_cloud(options)
    if given.parts and not LaunchPath(provisioner.render_for(own)).rules.mime:
        raise UsageError(f"Provisioner `{provisioner.name}` takes no `--part`")
    if provisioner.is_remote and url.startswith("file:"):
        raise UsageError(
            f"Cannot launch on `{provisioner.name}` with the bucket `{url}`",
            causes=("Its instances cannot reach a folder of this machine",),
            hint="Give a bucket that they can reach, as in `--store s3://bucket/prefix` or "
            "`--store gs://bucket/prefix`",
        )
    environment = dict(parse_variable(text) for text in given.variables)
    return Order(
        selection=given.selection,
        count=given.count,
        command=given.command,
        environment=environment,
        secrets=read_secrets(
            given.secrets, session, variables=environment, command=bool(given.command)
        ),
        dask=starts_dask(given.command),
        parts=tuple(read_part(spec) for spec in given.parts),
        options=own,
        timeout=given.timeout,
        life=_read_life(provisioner, given),
        seconds=parse_duration(given.expires) if given.expires else None,
        auth=Auth(cloud.auth),
        hook=cloud.hook,
        imds=cloud.imds,
        output=read_output(given.output, session) if given.command else None,
        fresh=given.fresh,
        keep=given.keep,
        stdin=find_input(given.stdin) if given.command else None,
        detach=given.detach,
    )


def _read_life(provisioner: Provisioner, given: Arguments) -> Lifetime:
    """Read how long machines are to live.

    Raises:
        UsageError: it is no duration, or nothing on such machines looks for one.
    """
    from envboot.fleet.life import parse_lifetime

    if given.idle and provisioner.name == "local":
        raise UsageError(
            "Cannot use `--idle` with `local`: its instances end with their command",
            hint="Drop `--idle`; `--max-life` ends them at a time",
        )
    return parse_lifetime(given.max_life, given.idle, has_command=bool(given.command))


def _print_cure(launched: Launched, url: str) -> None:
    """Say how a damaged archive is removed, so that the next machine publishes again."""
    is_removed = launched.damage is not None and not launched.damage.blocked
    if not is_removed and any(outcome.refused for outcome in launched.outcomes):
        folder = f"base/{launched.prepared.manifest.base_digest.removeprefix('sha256:')}"
        console.say(
            "\nIf the archive is damaged, have the next machine publish it anew:\n"
            f"  envboot store rm {url} {folder}/index.json {folder}/env.tar.zst",
            err=True,
        )


def _print_kept(launched: Launched) -> None:
    console.say(err=True)
    for outcome in launched.outcomes:
        instance = outcome.instance
        details = "  ".join(instance.details.values())
        place = instance.root / "opt/envboot/env" if instance.root else instance.folder or details
        console.say(f"kept `{instance.name}`: {place}", err=True)
    what = "it" if len(launched.outcomes) == 1 else "them"
    console.say(f"\nhint: End {what} with `envboot terminate {launched.launch}`", err=True)
