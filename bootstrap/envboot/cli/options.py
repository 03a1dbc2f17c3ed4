"""Arguments that several commands take, each read in one way."""

from __future__ import annotations

import contextlib
import os
import re
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.errors import EnvbootError, UsageError, name_some
from envboot.platforms import TARGETS
from envboot.selection import Selection
from envboot.text import is_variable_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from envboot.userdata.parts import Part

_CUDA = re.compile(r"\d{1,2}\.\d{1,2}")

PYTHON = click.option(
    "--python",
    type=click.Path(),
    help="An interpreter, its name on PATH, or the directory of an environment."
    "  [default: the project's environment, else the active one]",
)


takes_imds = click.option(
    "--imds",
    type=click.Choice(("allow", "deny")),
    help="Whether the command can reach the metadata service."
    "  [default: deny; `allow` with a role]",
)


def _complete_package(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Complete names of the environment's packages; one that cannot be read has none."""
    del parameter
    from envboot.scan import scan

    try:
        python = ctx.params.get("python")
        found = scan(python, environment=os.environ, folder=Path.cwd(), loose=False)
    except EnvbootError:
        return []
    names = {item.name for item in found.distributions} | {item.name for item in found.conda}
    return sorted(name for name in names if name.startswith(text.lower()))


def _complete_cuda(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Complete the versions that there are builds for."""
    del ctx, parameter
    from envboot.lock.torch import read_torch

    return [version for version in read_torch().cuda if version.startswith(text)]


def _read_cuda(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del ctx, parameter
    if value is not None and not _CUDA.fullmatch(value):
        raise UsageError(
            f"Expected `--cuda MAJOR.MINOR`, such as `12.4`, found `{value}`",
            hint="`nvidia-smi` shows it at the top, on a machine with that driver",
        )
    return value


def complete_published(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Complete names of published environments and, once a name is whole, their versions."""
    del parameter
    from envboot.publish.environments import LATEST, list_names
    from envboot.session import open_session
    from envboot.store import open_store

    try:
        session = open_session()
        url = ctx.params.get("store") or session.store
        with open_store(url, session) as store:
            names = list_names(store)
    except EnvbootError:
        return []
    whole = text.partition("@")[0]
    versions = [f"{whole}@{version}" for version in (LATEST, *names.get(whole, ())[::-1])]
    found = [*names, *(versions if whole in names else ())]
    return [each for each in found if each.startswith(text)]


def complete_source(
    ctx: click.Context, parameter: click.Parameter, text: str
) -> list[CompletionItem]:
    """Complete files, and published environments."""
    from click.shell_completion import CompletionItem

    found = complete_published(ctx, parameter, text)
    return [*map(CompletionItem, found), CompletionItem(text, type="file")]


FRESH = click.option("--fresh", is_flag=True, help="Look everything up again, whatever was kept.")
HOST_PYTHON = click.option(
    "--host-python",
    is_flag=True,
    help="Use this machine's own interpreter, for instances that run on it.",
)
_ENVIRONMENT = (
    PYTHON,
    click.option(
        "--from",
        "lock_file",
        metavar="FILE|NAME@VERSION",
        type=click.Path(path_type=Path),
        shell_complete=complete_source,
        help="Read this lock file instead of an environment. What starts machines also takes a"
        " manifest's file, and an environment from `envboot env publish`.",
    ),
    click.option(
        "--ignore",
        multiple=True,
        metavar="NAME",
        shell_complete=_complete_package,
        help="Leave out this package, not what it needs; repeat it for more.",
    ),
    click.option(
        "--only",
        multiple=True,
        metavar="NAME",
        shell_complete=_complete_package,
        help="Take this package and all that it needs, and nothing else; repeat it for more.",
    ),
    click.option(
        "--add",
        multiple=True,
        metavar="REQUIREMENT",
        help="Add what cannot be installed here, such as `cupy-cuda12x>=13`; repeat it for more.",
    ),
    click.option("--no-loose", is_flag=True, help="Leave out code that belongs to no package."),
    click.option(
        "--strict",
        is_flag=True,
        help="Refuse whatever would differ from what is installed here, instead of a warning.",
    ),
    click.option(
        "--platform",
        type=click.Choice(TARGETS),
        help="What the machines are.  [default: as this one, `linux-64` from a Mac or Windows]",
    ),
    click.option(
        "--cuda",
        metavar="VERSION",
        callback=_read_cuda,
        shell_complete=_complete_cuda,
        help="The CUDA version that the machines' driver runs, such as `12.4`.  [default: no GPU]",
    ),
)


_CHOICES = (
    "python", "lock_file", "ignore", "only", "add", "no_loose", "strict", "platform", "cuda",
)  # fmt: skip
"""The parameters that these options set."""


def _select(*, lock_file: Path | None, no_loose: bool, **chosen: Any) -> Selection:
    """Return what the options mean together; raises UsageError."""
    useless = [f"--{name}" for name in ("ignore", "only", "add", "strict") if chosen[name]]
    if lock_file and useless:
        raise UsageError(
            f"Cannot take `--from` together with {name_some(useless)}",
            hint="It is taken as it is: make it with what the machines need",
        )
    if chosen["add"]:
        from envboot.scan.dependencies import parse_added

        parse_added(chosen["add"])
    return Selection(lock_file=lock_file, loose=not no_loose, **chosen)


def selects_environment(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option that says which environment, as one `selection`."""

    @wraps(function)
    def wrapped(**given: Any) -> None:
        chosen = {option: given.pop(option) for option in _CHOICES}
        # A terminal shows both streams, and a document must be all that is written there.
        is_quiet = given.get("quiet") or (given.get("as_json") and console.is_terminal(err=True))
        with contextlib.nullcontext() if is_quiet else console.show_log():
            function(selection=_select(**chosen), **given)

    for option in reversed(_ENVIRONMENT):
        wrapped = option(wrapped)
    return wrapped


def _complete_variable(ctx: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Complete names of variables, as of `--secret`; never a value."""
    del ctx, parameter
    return sorted(name for name in os.environ if name.startswith(text))


_SECRETS = (
    click.option(
        "--secret",
        "specs",
        multiple=True,
        metavar="NAME[=SOURCE]",
        shell_complete=_complete_variable,
        help="Pass a secret variable to the command, outside of user-data: its value here, of a"
        " file (`NAME=@FILE`), or what the machine's cloud keeps (`NAME=arn:…`,"
        " `NAME=projects/…/versions/latest`); repeat it for more.",
    ),
    click.option(
        "--env-file",
        "env_files",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Pass every variable of a `.env` file as a secret; repeat it for more.",
    ),
)


def takes_secrets(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name secrets, as one `secrets`."""

    @wraps(function)
    def wrapped(**given: Any) -> None:
        from envboot.command_secrets import SecretOptions

        secrets = SecretOptions(specs=given.pop("specs"), files=given.pop("env_files"))
        function(secrets=secrets, **given)

    for option in reversed(_SECRETS):
        wrapped = option(wrapped)
    return wrapped


class TakesCommand(click.Command):
    """A command whose `words` are what stands behind `--`, and nothing else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read our own words first: a missing argument must not be taken from the command."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        ctx.params["words"] = (*ctx.params["words"], *args[at + 1 :])
        return rest


def read_part(spec: str) -> Part:
    """Read `--part [TYPE:]FILE`; raises UsageError and RenderError."""
    from envboot.userdata.parts import parse_part

    kind, separator, name = spec.partition(":")
    # A file that is named like a type still is a file.
    if not separator or Path(spec).exists():
        kind, name = "", spec
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        cause = error.strerror or str(error)
        raise UsageError(f"Cannot read part `{name}`", causes=(cause,)) from error
    typed = kind if "/" in kind else f"text/{kind}"
    return parse_part(Path(name).name, data, type=typed if kind else None)


def parse_variable(text: str) -> tuple[str, str]:
    """Read `--env NAME=VALUE`; raises UsageError."""
    name, separator, value = text.partition("=")
    if not separator or not is_variable_name(name):
        raise UsageError(f"Expected `--env NAME=VALUE`, found `{text}`")
    return name, value
