"""A provisioner's own options: on the command line, and as settings of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bootstrap.errors import UsageError, name_some
from provisioners import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bootstrap.config import Settings
    from provisioners import Options, Provisioner


CLOUD_OPTIONS = (
    Option(
        name="auth",
        choices=("urls", "role"),
        help="How instances may use the bucket: by signed URLs, or by their own role."
        "  [default: urls]",
    ),
    Option(
        name="on-interruption",
        metavar="COMMAND",
        help="A shell command for when the platform is about to take an instance back.",
    ),
)
"""Of every provisioner whose instances can have a role, beside its own."""


def own_options(provisioner: Provisioner) -> tuple[Option, ...]:
    """Return all that can be set for one provisioner's launches alone."""
    return provisioner.options + (CLOUD_OPTIONS if provisioner.role else ())


def takes_own_options(options: Sequence[Option]) -> Callable[[Any], Any]:
    """Give a command these options; it gets what was set, by name, as one `options`."""

    def decorate(function: Any) -> Any:
        def wrapped(**given: Any) -> None:
            own = {option.name: given.pop(_parameter(option)) for option in options}
            function(options={name: value for name, value in own.items() if value}, **given)

        wrapped.__doc__ = function.__doc__
        made: Any = wrapped
        made.__click_params__ = getattr(function, "__click_params__", [])
        for option in reversed(options):
            made = _to_click(option)(made)
        return made

    return decorate


def add_settings(
    provisioner: str, options: Sequence[Option], given: Options, settings: Settings
) -> Options:
    """Return what the command line gives, and beneath it what `[tool.envboot.<provisioner>]` says.

    Raises:
        UsageError: a setting is unknown, or of another type; with its dotted path.
    """
    known = {option.name: option for option in options}
    found: dict[str, str | tuple[str, ...]] = {}
    for name, value in settings.provisioners.get(provisioner, {}).items():
        path = f"tool.envboot.{provisioner}.{name}"
        if name not in known:
            hint = f"Known are {name_some(sorted(known), most=len(known))}" if known else None
            raise UsageError(f"Unknown key `{path}`", hint=hint)
        if read := _read(known[name], value, path):
            found[name] = read
    return {**found, **given}


def _read(option: Option, value: Any, path: str) -> str | tuple[str, ...] | None:
    if option.kind == "flag" and isinstance(value, bool):
        return "true" if value else None
    if option.kind == "number" and type(value) is int and value > 0:
        return str(value)
    if option.kind == "list" and isinstance(value, list):
        if all(isinstance(item, str) and item for item in value):
            return tuple(value)
    elif option.kind == "text" and isinstance(value, str) and value:
        if option.choices and value not in option.choices:
            raise UsageError(
                f"Expected one of {name_some(list(option.choices))} at `{path}`, found `{value}`"
            )
        return value
    wanted = {
        "flag": "true or false",
        "number": "a whole number above 0",
        "list": "a list of strings",
        "text": "a string",
    }[option.kind]
    raise UsageError(f"Expected {wanted} at `{path}`, found `{value!r:.60}`")


def _parameter(option: Option) -> str:
    return f"own_{option.name.replace('-', '_')}"


def _to_click(option: Option) -> Any:
    names = (f"--{option.name}", _parameter(option))
    if option.kind == "flag":
        return click.option(
            *names, is_flag=True, callback=lambda *a: "true" if a[2] else None, help=option.help
        )
    kind: Any = click.Choice(option.choices) if option.choices else None
    if option.kind == "number":
        kind = click.IntRange(min=1)
    return click.option(
        *names,
        type=kind,
        multiple=option.kind == "list",
        metavar=option.metavar or ("N" if option.kind == "number" else None),
        callback=lambda *a: a[2] if isinstance(a[2], tuple) else a[2] and str(a[2]),
        help=option.help,
    )


def read_own_options(program: str, options: Sequence[Option], words: list[str]) -> Options:
    """Read a command line of nothing but these options; `program` is what they stand behind.

    Raises:
        click.UsageError: there is anything else in it.
    """
    found: list[Options] = []
    reader: Any = takes_own_options(options)(lambda options: found.append(options))
    click.command(program)(reader).main(words, prog_name=program, standalone_mode=False)
    return found[0] if found else {}
