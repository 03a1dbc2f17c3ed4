"""How the instances of a launch fared: their reports, in words and as errors."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envboot.documents import Node, parse_json
from envboot.errors import CommandError, DocumentError, GuestError, ProvisionError, name_some
from envboot.fleet.reports import BootResult, Reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot_provisioners import Instance, Provisioner, State

EXIT_CODES = {
    126: "126 says that the program is there and cannot be executed",
    127: "127 says that the program is neither in the environment nor on the instance's PATH",
    137: "137 says that the program was killed, mostly for want of memory",
    -signal.SIGKILL: "What is killed so is mostly killed for want of memory",
}
"""What shells mean by an exit code (POSIX.1-2017, 2.8.2); below zero it is a signal."""
PUBLISHING = "publishing, once, for the next launch"
"""What a machine does after its command where it had to install."""
SENDING = "sending results"
"""The stage between a command's end and that of its results."""
CONSOLE = 5
"""How many last lines of a console an error shows."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """How one instance fared: its reports, and its state where the platform tells it.

    With `output` what its command makes goes to the bucket.
    """

    instance: Instance
    output: bool = False
    reports: Reports = field(default_factory=Reports)
    state: State | None = None

    @property
    def rank(self) -> int | None:
        """Its rank in the launch, None while it has not reported it."""
        return self.reports.seated.rank if self.reports.seated else None

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended."""
        return self.state is not None and not self.state.alive

    @property
    def result(self) -> BootResult | None:
        """The agent's result, None while there is none."""
        return self.reports.result

    @property
    def source(self) -> str:
        """Where its environment came from; empty while that is not known."""
        return self.result.source if self.result else ""

    @property
    def refused(self) -> bool:
        """Whether it could not use the published archive."""
        return bool(self.result and any(e.stage == "fetch" for e in self.result.errors))

    @property
    def failed(self) -> bool:
        """Whether it will never be ready."""
        if self.result is None:
            return self.gone
        return self.result.outcome == "failed"

    @property
    def is_publishing(self) -> bool:
        """Whether it had to install, and that is still to be published."""
        return self.source == "install" and "publish" not in self.reports.events and not self.gone

    def is_done(self, *, command: bool) -> bool:
        """Whether it has done all that it was started for, or never will."""
        if self.gone or self.failed:
            return True
        wanted = ["result"] + ["command"] * command + ["results"] * (command and self.output)
        if self.source == "install":
            wanted.append("publish")
        return all(event in self.reports.events for event in wanted)


def find_named(name: str, instances: Sequence[Instance]) -> list[Instance]:
    """Return the instance of that name, else the one that has it as its host or address.

    None where several have: an address inside a network may be given to more than one.
    """
    if exact := [each for each in instances if each.name == name]:
        return exact
    told = [each for each in instances if name in map(each.details.get, ("host", "address"))]
    return told if len(told) == 1 else []


def raise_failures(
    provisioner: Provisioner | None, outcomes: Sequence[Outcome], *, hint: str | None = None
) -> None:
    """Raise GuestError when some instances will never be ready, each with its own reason."""
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        names = name_some([outcome.instance.name for outcome in failed])
        raise GuestError(
            f"Failed to bring up {len(failed)} of {len(outcomes)} instances: {names}",
            causes=tuple(find_reason(provisioner, outcome) for outcome in failed[:3]),
            hint=hint,
        )


def raise_command_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise CommandError when the command failed, or never ended, on some instances.

    Its exit code is that of the first one that failed, by rank.
    """
    failed: list[str] = []
    codes: list[int] = []
    for outcome in sorted(outcomes, key=_sort_by_rank):
        command, name = outcome.reports.command, outcome.instance.name
        if command is None:
            ended, state = outcome.reports.ended, outcome.state
            reason = ended.text if ended else state.reason if state else None
            why = f": {reason}" if reason else ""
            failed.append(f"`{name}` ended before the command did{why}")
            codes.append(CommandError.exit_code)
        elif command.error is not None:
            failed.append(f"`{name}` did not start it: {command.error}")
            codes.append(CommandError.exit_code)
        elif command.exit_code:
            failed.append(f"`{name}` {describe_end(command.exit_code)}")
            codes.append(find_exit_code(command.exit_code))
    if failed:
        reports = [outcome.reports.command for outcome in outcomes]
        ends = {command.exit_code if command else None for command in reports}
        error = CommandError(
            f"The command failed on {len(failed)} of {len(outcomes)} instances",
            causes=tuple(failed[:10]),
            hint=EXIT_CODES.get(ends.pop() or 0) if len(ends) == 1 else None,
        )
        error.exit_code = codes[0]
        raise error


def find_exit_code(code: int) -> int:
    """Return with what a shell would exit: below zero it is a signal."""
    # A machine may report any number, and the kernel keeps eight bits of it.
    return (128 - code if code < 0 else code) & 255 or 255


def _sort_by_rank(outcome: Outcome) -> float:
    return float("inf") if outcome.rank is None else outcome.rank


def describe_end(code: int) -> str:
    """Say how a program ended: its exit code, or below zero the signal."""
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def find_reason(provisioner: Provisioner | None, outcome: Outcome) -> str:
    """Say in the instance's own words, or the platform's, why it is not ready."""
    name, result = outcome.instance.name, outcome.result
    if result and result.errors:
        lines = [f"`{name}` {error.stage}: {error.error}" for error in result.errors]
        return "\n".join(lines).replace("\n", "\n    ")
    ended = ""
    if outcome.reports.ended:
        ended = f" has ended itself: {outcome.reports.ended.text}; it"
    elif outcome.state and outcome.state.reason:
        ended = f" is {outcome.state.word} ({outcome.state.reason}),"
    seen = name_some(list(outcome.reports.events)) or "nothing"
    told = outcome.reports.ended and outcome.reports.ended.console
    lines = told.splitlines() if told else _read_console(provisioner, outcome.instance)
    lines = lines[-CONSOLE:]
    if not lines:
        return f"`{name}`{ended} reported {seen} and wrote nothing on its console"
    return "\n    ".join([f"`{name}`{ended} reported {seen}; its console ends with", *lines])


def _read_console(provisioner: Provisioner | None, instance: Instance) -> list[str]:
    """Return the lines of an instance's console; one that cannot be read says why."""
    try:
        return provisioner.console(instance).strip().splitlines() if provisioner else []
    except ProvisionError as error:
        return [f"({error.message})"]


def find_progress(outcome: Outcome) -> tuple[str, int, int]:
    """Return stage, bytes done and total of an instance, as far as they can be seen from here."""
    root, reports = outcome.instance.root, outcome.reports
    publishes = bool(reports.command) and outcome.is_publishing
    if root and (not outcome.result or publishes):
        try:
            node = Node(parse_json((root / "run/envboot/status.json").read_bytes(), "status"), "")
            stage = PUBLISHING if publishes else node.take("stage", str)
            return stage, node.take("done", int), node.take("total", int)
        except (OSError, DocumentError):
            pass
    if publishes:
        known = reports.stage if reports.stage and reports.stage.stage == "publish" else None
        return PUBLISHING, known.done if known else 0, known.total if known else 0
    if reports.stage and not outcome.result and not outcome.gone:
        return reports.stage.stage, reports.stage.done, reports.stage.total
    if publish := outcome.reports.publish:
        return "published" if publish.error is None else "not published", 0, 0
    if outcome.failed:
        return "failed", 0, 0
    if "command" in outcome.reports.events and not outcome.is_done(command=True):
        return SENDING, 0, 0
    for event, stage in (("command", "done"), ("result", "ready"), ("started", "started")):
        if event in outcome.reports.events:
            return stage, 0, 0
    if outcome.gone:
        return "ended", 0, 0
    return "starting", 0, 0
