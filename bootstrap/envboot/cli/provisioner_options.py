"""A provisioner's own options on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot_provisioners import Option, Options


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
