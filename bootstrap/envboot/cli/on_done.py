"""What this client does when a launch is over: runs a command of the user's, notifies a URL."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from envboot.cli import console
from envboot.errors import EnvbootError, Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from envboot.fleet.outcomes import Outcome
    from envboot.session import Session

_F = TypeVar("_F", bound="Callable[..., Any]")
TRIES, PAUSE, TIMEOUT = 4, 1.0, 10.0
"""How often a notification is sent at most, the first pause, and for how long one may take, in
seconds."""
_OPTIONS = (
    click.option(
        "--on-done",
        metavar="COMMAND",
        help="Shell command to run here when the launch is over; it finds `ENVBOOT_LAUNCH`, "
        "`ENVBOOT_OUTCOME` and `ENVBOOT_EXIT_CODE` in its environment.",
    ),
    click.option(
        "--notify",
        metavar="URL",
        help="URL that gets a JSON document by POST when the launch is over.",
    ),
)


def tells_the_end(function: _F) -> _F:
    """Give a command the options `--on-done` and `--notify`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(slots=True)
class Teller:
    """Tells how a launch ended, as its user wants; `launch` and `outcomes` are known later."""

    session: Session
    command: str | None = None
    url: str | None = None
    launch: str = ""
    outcomes: Sequence[Outcome] = ()
    _start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.url and (urlsplit(self.url).scheme not in ("http", "https")):
            raise UsageError("Expected a URL of `http://` or `https://` for `--notify`")

    @contextlib.contextmanager
    def telling(self) -> Iterator[Teller]:
        """Tell the outcome of what is done meanwhile, if a launch has begun."""
        try:
            yield self
        except EnvbootError as error:
            self._tell("failed", int(error.exit_code), error.message)
            raise
        except KeyboardInterrupt:
            self._tell("interrupted", int(Exit.INTERRUPTED), None)
            raise
        except Exception:
            self._tell("failed", int(Exit.UNEXPECTED), None)
            raise
        self._tell("done", 0, None)

    def _tell(self, outcome: str, code: int, error: str | None) -> None:
        if not self.launch:
            return
        if self.url:
            self._notify(self.url, self._describe(outcome, code, error))
        if self.command:
            self._run(self.command, outcome, code)

    def _describe(self, outcome: str, code: int, error: str | None) -> dict[str, Any]:
        """Return the document; `text` is what chat services show."""
        seconds = time.monotonic() - self._start
        return {
            "text": f"envboot launch {self.launch}: {outcome}, exit code {code}, {seconds:.0f} s",
            "launch": self.launch,
            "outcome": outcome,
            "exit_code": code,
            "error": error,
            "seconds": round(seconds, 1),
            "instances": [
                {
                    "name": each.instance.name,
                    "rank": each.rank,
                    "exit_code": each.reports.command.exit_code if each.reports.command else None,
                }
                for each in self.outcomes
            ],
        }

    def _run(self, command: str, outcome: str, code: int) -> None:
        from envboot import process

        variables = {
            "ENVBOOT_LAUNCH": self.launch,
            "ENVBOOT_OUTCOME": outcome,
            "ENVBOOT_EXIT_CODE": str(code),
        }
        shell = ["cmd", "/c", command] if os.name == "nt" else ["/bin/sh", "-c", command]
        try:
            done = process.run(
                shell,
                environment=self.session.environment,
                folder=self.session.folder,
                variables=variables,
            )
        except OSError as error:
            console.print_warning(f"`--on-done` did not start: {error.strerror or error}")
            return
        console.write(done.stderr + done.stdout, err=True)
        if done.code:
            console.print_warning(f"`--on-done` exited with {done.code}")

    def _notify(self, url: str, document: dict[str, Any]) -> None:
        """Post the document; what cannot be delivered is a warning, without the URL's path.

        Paths of such URLs are often what lets their reader post.
        """
        request = urllib.request.Request(
            url, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        reason = ""
        for number in range(TRIES):
            if number:
                time.sleep(PAUSE * 2 ** (number - 1))
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT):
                    return
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}"
                if error.code < 500 and error.code != 429:
                    break
            except (OSError, ValueError, HTTPException) as error:
                reason = str(getattr(error, "reason", "") or type(error).__name__)
        where = urlsplit(url).hostname
        console.print_warning(f"`--notify` was not delivered to `{where}`: {reason}")
