"""The part of the reference that click knows: every command, argument and option."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from envboot.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, END = "<!-- made by tests/docs/commands.py: begin -->\n", "<!-- end -->\n"


def render() -> str:
    """Return the section in Markdown, from its begin mark to its end mark."""
    context = click.Context(cli, info_name="envboot")
    return BEGIN + "".join(_render(cli, context)) + END


def find_command(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """Return the command that a command line calls, its context, and the words behind it.

    Raises:
        click.UsageError: there is no such command.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="envboot")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found
        context = click.Context(found, info_name=name, parent=context)
        command = found
    return command, context, words


def _render(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"### `{context.command_path}`\n```\n{context.command_path} {pieces}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n\n"
    rows = [
        record
        for option in command.params
        if isinstance(option, click.Option) and (record := option.get_help_record(context))
    ]
    if rows:
        yield "| option | |\n|---|---|\n"
        for names, text in rows:
            shown = ", ".join(f"`{name}`" for name in names.split(", "))
            yield "| {} | {} |\n".format(*(cell.replace("|", "\\|") for cell in (shown, text)))
        yield "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            yield from _render(found, click.Context(found, info_name=name, parent=context))
