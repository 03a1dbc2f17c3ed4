"""`envboot completion`: the script that teaches a shell to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from envboot.cli import cli, console


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: `eval "$(envboot completion bash)"` in ~/.bashrc.
    """
    complete = get_completion_class(shell)
    assert complete
    console.say(complete(cli, {}, "envboot", "_ENVBOOT_COMPLETE").source())
