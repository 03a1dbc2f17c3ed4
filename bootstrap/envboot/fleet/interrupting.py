"""Ctrl-C: the command is interrupted first, as it would be here, and its end is waited for."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from envboot.agent.host import Host
from envboot.agent.sync import interrupt as interrupt_command
from envboot.errors import CommandError, EnvbootError, GuestError, Interrupted
from envboot.fleet.wanted import resend
from envboot.fleet.watch import Goal, Looker, wait

if TYPE_CHECKING:
    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.watch import Fleet
    from envboot.session import Session

GRACE = 30.0
"""Seconds within which a command that was interrupted must have ended."""


class Interruptible(Looker, Protocol):
    """Is told of an interrupt."""

    def interrupted(self, seconds: float) -> None:
        """The command was interrupted, and has so long to end; another interrupt comes through."""


def wait_done(
    fleet: Fleet, session: Session, *, timeout: float | None, watcher: Interruptible
) -> tuple[list[Outcome], bool]:
    """Wait until all is done; at Ctrl-C, until the command has ended because of it.

    Returns the outcomes, and whether it was interrupted.

    Raises:
        KeyboardInterrupt: it came again, or was no Ctrl-C, or the command did not end in time.
        GuestError, CommandError: see `wait`.
    """
    try:
        return wait(fleet, Goal.DONE, timeout=timeout, looker=watcher), False
    except KeyboardInterrupt as error:
        is_other = isinstance(error, Interrupted) and error.number != signal.SIGINT
        if is_other or not fleet.command or not interrupt(fleet, session):
            raise
        watcher.interrupted(GRACE)
    try:
        return wait(fleet, Goal.DONE, timeout=GRACE, looker=watcher), True
    except (GuestError, CommandError):
        if not all(each.reports.command or each.gone for each in fleet.look()):
            raise KeyboardInterrupt from None
    # What it made is on its way: only that is left.
    return wait(fleet, Goal.DONE, timeout=timeout, looker=watcher), True


def interrupt(fleet: Fleet, session: Session) -> bool:
    """Send SIGINT to the commands that run; False where none does, or none can be reached."""
    running = [
        outcome
        for outcome in fleet.look()
        if outcome.result and not (outcome.gone or outcome.failed or outcome.reports.command)
    ]
    here = [outcome.instance.root for outcome in running if outcome.instance.root]
    for root in here:
        interrupt_command(Host(str(root)))
    if len(here) == len(running):
        return bool(here)
    try:
        resend(fleet, session, lambda wanted: replace(wanted, interrupt=True))
    except EnvbootError:
        return False
    return True
