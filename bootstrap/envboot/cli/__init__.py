"""The `envboot` command: one module a subcommand, imported only when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import signal
import sys
from typing import NoReturn

import click

from envboot import __version__
from envboot.cli import console
from envboot.errors import EnvbootError, Exit, Interrupted, UsageError

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMMANDS = {
    "attach": "Come back to a launch, and see it to its end",
    "aws": "Work with EC2 beside launches",
    "completion": "Print the completion script of a shell",
    "doctor": "Try what launches need in the bucket, and explain what fails",
    "env": "Publish environments under names, and see which there are",
    "extend": "Let the instances of a launch live longer",
    "export": "Write the exact packages of an environment for another tool",
    "fetch": "Fetch the files that a command has made",
    "gcp": "Work with Compute Engine beside launches",
    "launch": "Run a command in your environment, on one or many machines",
    "ls": "List the instances that were started from here",
    "logs": "Print what the command printed on the instances",
    "lock": "Make the manifest: exact packages for the target platform",
    "plan": "Show what becomes of each package on the machines",
    "render-userdata": "Make the cloud-init user-data document for an environment",
    "scan": "Report what is in an environment",
    "status": "Show how the instances of a launch are",
    "store": "Work with the bucket",
    "terraform-external": "Render user-data for Terraform's `external` data source",
    "sync": "Send changed projects and loose code to the running instances of a launch",
    "terminate": "End a launch's instances, and remove what they left on this machine",
    "wait": "Wait until the instances of a launch are ready, or done",
    "why": "Tell what happened on each instance, and why",
}


class LazyGroup(click.Group):
    """Subcommands by name, so that `scan` never pays for importing `launch`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every subcommand's name, sorted."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import `envboot.cli.commands.<name>` and return its command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"envboot.cli.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="envboot")
def cli() -> None:
    """Your Python environment, exactly as it is here, on any number of fresh Linux VMs."""


def run(command: click.Command, arguments: list[str], name: str) -> int:
    """Run a command and return its exit code; no error leaves as a traceback."""
    try:
        _refuse_gone_folder()
        result = command.main(args=arguments, prog_name=name, standalone_mode=False)
        return result if isinstance(result, int) else Exit.OK
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        console.say(error.format_message(), err=True)
        return Exit.USAGE
    except click.UsageError as error:
        console.print_error(_usage(error))
        return Exit.USAGE
    except click.ClickException as error:
        console.print_error(EnvbootError(error.format_message()))
        return Exit.UNEXPECTED
    except EnvbootError as error:
        console.print_error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.say("interrupted", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout has gone (`envboot scan | head`): nothing is wrong.
        sys.stderr.close()  # noqa: TID251
        return Exit.OK
    except PermissionError as error:
        console.print_error(_refused(error))
        return Exit.UNEXPECTED
    except Exception as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            # click could not tell a terminal that has been closed.
            return Exit.INTERRUPTED
        console.print_error(_unexpected(error))
        return Exit.UNEXPECTED


def _refuse_gone_folder() -> None:
    """Refuse a current folder that has been removed; every command reads settings from there."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError as error:
        raise UsageError(
            "The current folder is gone", hint="Go to one that is there: `cd`"
        ) from error


def _usage(error: click.UsageError) -> EnvbootError:
    message = error.format_message().rstrip(".").replace("'", "`")
    if error.ctx is None:
        return EnvbootError(message)
    name = re.fullmatch("No such command `(.*)`", message)
    if name and isinstance(error.ctx.command, click.Group):
        known = error.ctx.command.list_commands(error.ctx)
        if near := difflib.get_close_matches(name[1], known, n=1):
            return EnvbootError(message, hint=f"Did you mean `{error.ctx.command_path} {near[0]}`?")
    usage = " ".join(error.ctx.get_usage().split()).removeprefix("Usage: ")
    hint = f"Use `{usage}`; more is in `{error.ctx.command_path} --help`"
    if isinstance(error, click.NoSuchOption) and "[-- COMMAND" in usage:
        hint += "; options of your own command stand behind `--`"
    return EnvbootError(message, hint=hint)


def _refused(error: PermissionError) -> EnvbootError:
    return EnvbootError(
        f"Cannot use `{error.filename}`",
        causes=(error.strerror or str(error),),
        hint="Set `ENVBOOT_CACHE_DIR` and `ENVBOOT_STATE_DIR` to folders that you may write to",
    )


def _unexpected(error: Exception) -> EnvbootError:
    """Describe a fault of ours, or of the machine; its traceback goes to a file."""
    import tempfile
    import traceback

    from envboot.redaction import redact
    from envboot.text import show_controls

    with tempfile.NamedTemporaryFile("w", prefix="envboot-", suffix=".log", delete=False) as log:
        log.write(show_controls(redact("".join(traceback.format_exception(error)))))
    return EnvbootError(
        "Failed unexpectedly",
        causes=(redact(f"{type(error).__name__}: {error}"),),
        hint=f"The traceback is in `{log.name}`",
    )


def _interrupt(number: int, frame: object) -> NoReturn:
    """End as with Ctrl-C; what comes after the first signal must not disturb the cleaning up."""
    del frame
    for each in INTERRUPTS:
        if signal.getsignal(each) is _interrupt:
            signal.signal(each, lambda *_: None)
    raise Interrupted(number)


def arm_interrupts() -> None:
    """Let the next signal that ends a process interrupt this one."""
    for number in INTERRUPTS:
        # `nohup`, and shells for what they start in the background, have some ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def main() -> NoReturn:
    """Console script `envboot`."""
    arm_interrupts()
    sys.exit(run(cli, sys.argv[1:], "envboot"))


def render_userdata_main() -> NoReturn:
    """Console script `render-userdata`, the same as `envboot render-userdata`."""
    from envboot.cli.commands.render_userdata import command

    sys.exit(run(command, sys.argv[1:], "render-userdata"))
