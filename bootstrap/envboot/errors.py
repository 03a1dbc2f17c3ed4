"""Every error that a user can meet, each with its exit code, its causes and a way out."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from envboot.text import one_line, show_controls

if TYPE_CHECKING:
    from collections.abc import Iterable

LISTED = 10
"""How many offenders an error names before it counts the rest."""


class Exit(IntEnum):
    """Exit codes of every `envboot` command; `docs/reference.md` lists them for users.

    `launch` and `attach` exit with the command's own code, so those of envboot are such that
    programs rarely use: below them are usual codes, 126 and above are the shell's (POSIX.1-2017,
    2.8.2). 124 and 125 mean the same to `timeout` and `docker run`.
    """

    OK = 0
    SCAN = 110
    LOCK = 111
    LAYER = 112
    STORE = 113
    RENDER = 114
    PROVISION = 115
    GUEST = 116
    COMMAND = 117
    USAGE = 118
    TIMEOUT = 124
    UNEXPECTED = 125
    INTERRUPTED = 130


class EnvbootError(Exception):
    """Something that the user can understand and usually mend.

    `message` is capitalised, has no full stop, quotes literals in backticks and names the
    object, what was seen and what was wanted. `causes` run from the nearest to the deepest.
    """

    exit_code: int = Exit.UNEXPECTED

    def __init__(self, message: str, *, causes: tuple[str, ...] = (), hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.causes = causes
        self.hint = hint

    def __str__(self) -> str:
        """Return all its words, for whoever meets it in Python: a traceback prints them."""
        causes = "".join(f"\n  caused by: {cause}" for cause in self.causes)
        hint = f"\n\nhint: {self.hint}" if self.hint else ""
        return show_controls(f"{self.message}{causes}{hint}")


class UsageError(EnvbootError):
    """The command line or a configuration file asks for something that cannot be."""

    exit_code = Exit.USAGE


class MissingExtraError(UsageError, ImportError):
    """An optional part of envboot is needed and was not installed with it.

    It is an `ImportError` too, for code that takes what is installed: `try: from envboot import
    Cluster`.
    """


class ScanError(EnvbootError):
    """The environment could not be read."""

    exit_code = Exit.SCAN


class LockError(EnvbootError):
    """Exact packages for the target could not be found."""

    exit_code = Exit.LOCK


class LayerError(EnvbootError):
    """A local or git project could not be built."""

    exit_code = Exit.LAYER


class StoreError(EnvbootError):
    """The bucket refused, or could not be reached."""

    exit_code = Exit.STORE


class RenderError(EnvbootError):
    """The user-data document cannot be made, or does not fit its launch path."""

    exit_code = Exit.RENDER


class ProvisionError(EnvbootError):
    """An instance could not be started or ended."""

    exit_code = Exit.PROVISION


class Interrupted(KeyboardInterrupt):
    """A signal that ends this process, other than by its default: which one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class UnseenError(ProvisionError):
    """The instances of a launch cannot be seen from here; `why` says it in a line."""

    def __init__(self, launch: str, why: str, *, hint: str) -> None:
        super().__init__(
            f"Instances of `{launch}` cannot be seen from here", causes=(why,), hint=hint
        )


class GuestError(EnvbootError):
    """An instance started and did not become ready."""

    exit_code = Exit.GUEST


class CommandError(EnvbootError):
    """The user's command did not start, or its instance ended before it did."""

    exit_code: int = Exit.COMMAND


class LateError(CommandError):
    """The command was still running when its `--timeout` was over."""

    exit_code = Exit.TIMEOUT


class DocumentError(EnvbootError):
    """A manifest, scan or index is not what its schema says.

    The message carries the dotted path of the offending value, as in `base.wheels[3].sha256`.
    """

    exit_code = Exit.USAGE


def list_causes(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the first causes of an error, and the count of the rest."""
    causes = list(lines)
    rest = len(causes) - LISTED
    return (*causes[:LISTED], *((f"and {rest} more",) if rest > 0 else ()))


def name_some(items: list[str], *, most: int = LISTED) -> str:
    """Render the first `most` of `items`, each in backticks, and the count of the rest."""
    shown = ", ".join(f"`{one_line(item)}`" for item in items[:most])
    rest = len(items) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
