"""`envboot launch`: your environment on machines, a command in it, and what each step took."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootstrap.cli import console, timings
from bootstrap.cli.arguments import selects_environment
from bootstrap.config import cache_folder, read_settings
from bootstrap.errors import UsageError
from provisioners import load_provisioner, provisioner_names, state_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from bootstrap.launch import Launched, Outcome
    from bootstrap.scan.document import Problem
    from bootstrap.selection import Selection


def _complete_provisioner(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    del ctx, parameter
    return [name for name in provisioner_names() if name.startswith(text)]


@click.command(
    "launch",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": True},
)
@click.argument("provisioner", shell_complete=_complete_provisioner)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="How many instances.",
)
@click.option(
    "--store",
    metavar="URL",
    help="The bucket: `s3://bucket/prefix` or `file:///folder`."
    "  [default: `tool.envboot.store`, else a folder of this user]",
)
@selects_environment
@click.option("--env", "variables", multiple=True, metavar="K=V", help="Set for the command.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="[TYPE:]FILE",
    help="Add a part of yours to user-data: `cloud-config:my.yaml`, or a script.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long the instances may take, command included."
    "  [default: half an hour to be ready; the command as long as it likes]",
)
@click.option(
    "--keep", is_flag=True, help="Leave the instances, whatever happens, for a look inside."
)
@click.option("--fresh", is_flag=True, help="Lock again, whatever was kept.")
@click.option("--image", type=click.Path(), help="qemu: the disk image to boot.")
@click.option("--make-image", is_flag=True, help="qemu: make a Debian 12 image if there is none.")
@click.option(
    "--memory", type=int, metavar="MB", help="qemu: memory of an instance.  [default: 2048]"
)
@click.option(
    "--cpus", type=int, metavar="N", help="qemu: processors of an instance.  [default: 2]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, output included.")
def command(
    provisioner: str,
    command: tuple[str, ...],
    *,
    count: int,
    store: str | None,
    selection: Selection,
    variables: tuple[str, ...],
    parts: tuple[str, ...],
    timeout: float | None,
    keep: bool,
    fresh: bool,
    image: str | None,
    make_image: bool,
    memory: int | None,
    cpus: int | None,
    as_json: bool,
) -> None:
    """Run a command in your environment, on one or many machines.

    PROVISIONER is `local` (folders of this machine) or `qemu` (virtual machines on it). With no
    command the instances come up and stay.
    """
    from bootstrap.cli.arguments import parse_variable, read_part
    from bootstrap.launch import Order, launch, raise_command_failures
    from bootstrap.required import starts_dask
    from bootstrap.store import open_store

    made = load_provisioner(provisioner)
    settings = read_settings(Path.cwd())
    # The one character of a path that means something else in such a URL.
    folder = str(state_folder() / "store").replace("%", "%25")
    url = store or settings.store or f"file://{folder}"
    made_image = "true" if make_image else None
    options = {"image": image, "make-image": made_image, "memory": memory, "cpus": cpus}
    given = {name: str(value) for name, value in options.items() if value}
    refused = [*given, *(["part"] if parts else [])]
    if refused and provisioner == "local":
        names = ", ".join(f"`--{name}`" for name in refused)
        raise UsageError(f"Provisioner `local` takes no {names}")
    order = Order(
        selection=selection,
        count=count,
        command=command,
        environment=dict(parse_variable(text) for text in variables),
        dask=starts_dask(command),
        parts=tuple(read_part(spec) for spec in parts),
        options=given,
        timeout=timeout,
        fresh=fresh,
        keep=keep,
    )
    with open_store(url, guest_loopback=made.guest_loopback) as bucket, Screen(as_json) as screen:
        launched = launch(
            made,
            bucket,
            order,
            settings=settings,
            cache=cache_folder(),
            environment=os.environ,
            watcher=screen,
        )
    screen.finish(launched)
    if as_json:
        console.print_json(timings.to_document(launched))
    else:
        click.echo(timings.render(launched), err=True)
        _print_cure(launched, url)
        if launched.kept:
            _print_kept(launched)
    if command:
        raise_command_failures(launched)


def _print_cure(launched: Launched, url: str) -> None:
    """Say how a damaged archive is removed, so that the next machine publishes again."""
    faults = [error for outcome in launched.outcomes for error in outcome.result.get("errors", ())]
    if any(fault["stage"] == "fetch" for fault in faults):
        folder = f"base/{launched.prepared.manifest.base_digest.removeprefix('sha256:')}"
        click.echo(
            "\nIf the archive is damaged, have the next machine publish it anew:\n"
            f"  envboot store rm {url} {folder}/index.json {folder}/env.tar.zst",
            err=True,
        )


def _print_kept(launched: Launched) -> None:
    click.echo(err=True)
    for outcome in launched.outcomes:
        if outcome.instance.root:
            prefix = outcome.instance.root / "opt/envboot/env"
            click.echo(f"kept `{outcome.instance.name}`: {prefix}", err=True)
        elif outcome.instance.folder:
            click.echo(f"kept `{outcome.instance.name}`: {outcome.instance.folder}", err=True)
    click.echo(f"\nhint: End it with `envboot terminate {launched.launch}`", err=True)


class Screen:
    """Shows a launch while it runs: steps and stages on stderr, the command's output on stdout."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._is_terminal = sys.stderr.isatty() and not quiet
        # Where output and progress share a terminal, a line that is not ended stays as it is.
        self._shares = self._is_terminal and sys.stdout.isatty()
        self._is_line_open = False
        self._offsets: dict[str, int] = {}
        self._stages: dict[str, str] = {}
        self._line = ""
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._show("")
        if self._is_line_open:
            sys.stdout.write("\n")

    def step(self, name: str) -> None:
        """Show the step that begins on this machine."""
        self._show(name)

    def notes(self, notes: Sequence[Problem]) -> None:
        """Warn of what will not arrive as it is; with `--json` the document has it."""
        if not self._quiet:
            self._show("")
            console.print_notes(notes)

    def progress(self, outcomes: Sequence[Outcome]) -> None:
        """Print new output, and where each instance is."""
        from bootstrap.launch import find_progress

        texts = []
        for outcome in outcomes:
            self._print_output(outcome, len(outcomes) > 1)
            stage, done, total = find_progress(outcome)
            text = f"{stage} {done >> 20} of {total >> 20} MB" if total else stage
            texts.append(text)
            name = outcome.instance.name
            if self._stages.get(name) != stage and not self._is_terminal and not self._quiet:
                self._stages[name] = stage
                click.echo(f"{name}: {stage}", err=True)
        counts = {text: texts.count(text) for text in texts}
        many = [f"{number} {text}" for text, number in counts.items()]
        self._show(texts[0] if len(texts) == 1 else ", ".join(many))

    def finish(self, launched: Launched) -> None:
        """Print the output that came by report, or last."""
        for outcome in launched.outcomes:
            self._print_output(outcome, len(launched.outcomes) > 1)
            command = outcome.reports.get("command")
            if command and outcome.instance.root is None and not self._quiet:
                label = f"[{outcome.instance.name}] " if len(launched.outcomes) > 1 else ""
                self._write(command["output"].encode(), label)

    def _print_output(self, outcome: Outcome, is_one_of_many: bool) -> None:
        """Print what the command wrote since the last look, where it can be read from here."""
        if outcome.instance.root is None or outcome.instance.folder is None or self._quiet:
            return
        name = outcome.instance.name
        try:
            with (outcome.instance.folder / "output").open("rb") as stream:
                stream.seek(self._offsets.get(name, 0))
                data = stream.read()
        except FileNotFoundError:
            return
        if is_one_of_many and not outcome.gone and "command" not in outcome.reports:
            # Lines of several instances must not mix: what is not a whole line waits.
            data = data[: data.rfind(b"\n") + 1]
        if data:
            self._show("")
            self._offsets[name] = self._offsets.get(name, 0) + len(data)
            self._write(data, f"[{name}] " if is_one_of_many else "")

    def _write(self, data: bytes, label: str) -> None:
        """Write output as it is, or with a label before each line, the last one ended too."""
        stream = sys.stdout.buffer
        if label:
            data += b"" if data.endswith(b"\n") else b"\n"
            stream.writelines(label.encode() + line for line in data.splitlines(keepends=True))
        else:
            stream.write(data)
        stream.flush()
        self._is_line_open = self._shares and not data.endswith(b"\n")

    def _show(self, text: str) -> None:
        """Draw the one line of progress anew, on a terminal."""
        if not self._is_terminal or self._is_line_open:
            return
        clock = f"{time.monotonic() - self._start:6.1f} s  " if text else ""
        if text or self._line:
            # A longer line would go on in the next row, which nothing wipes away.
            room = shutil.get_terminal_size().columns - 1
            try:
                sys.stderr.write(f"\r\x1b[K{clock}{text}"[: room + len("\r\x1b[K")])
                sys.stderr.flush()
            except OSError:
                # The terminal was closed; what was started must still be ended.
                self._is_terminal = False
        self._line = text
