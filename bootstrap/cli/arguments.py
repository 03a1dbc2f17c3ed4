"""Arguments that several commands take, each read in one way."""

from __future__ import annotations

import re
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootstrap.errors import UsageError
from bootstrap.manifest import PLATFORMS
from bootstrap.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootstrap.parts import Part

PYTHON = click.option(
    "--python",
    type=click.Path(),
    help="An interpreter, its name on PATH, or the folder of an environment."
    "  [default: the active environment, else the Python that runs envboot]",
)


_ENVIRONMENT = (
    PYTHON,
    click.option(
        "--platform",
        type=click.Choice(PLATFORMS),
        help="What the machines are.  [default: as this one]",
    ),
)


def selects_environment(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option that says which environment, as one `selection`."""

    @wraps(function)
    def wrapped(*, python: str | None, platform: str | None, **rest: Any) -> None:
        function(selection=Selection(python=python, platform=platform), **rest)

    for option in reversed(_ENVIRONMENT):
        wrapped = option(wrapped)
    return wrapped


def read_part(spec: str) -> Part:
    """Read `--part [TYPE:]FILE`; raises UsageError and RenderError."""
    from bootstrap.parts import parse_part

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
    if not separator or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UsageError(f"Expected `--env NAME=VALUE`, found `{text}`")
    return name, value
