"""What people see of a launch while it runs: progress on stderr, the command's output on stdout."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from envboot.cli import console
from envboot.cli.printer import Printer, View
from envboot.errors import name_some
from envboot.fleet.outcomes import SENDING, find_progress
from envboot.fleet.output import OutputReader

EACH = 10
"""Up to so many instances each one's stages are told where nobody watches; beyond, their counts."""
BRIEF = 2
"""Seconds of sending results that nobody needs to be told of."""
SILENT = 150
"""Seconds after which people want to know why an instance says nothing."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from envboot.cli.on_done import Teller
    from envboot.errors import EnvbootError
    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.watch import Fleet
    from envboot.scan.schema import Problem
    from envboot_provisioners import Instance


class Screen:
    """Shows a launch while it runs: steps and stages on stderr, the command's output as it was.

    With `quiet` nothing is said beside output; `view` is how that is printed, None for not. A
    `teller` is told which launch it is, and how its instances fare.
    """

    def __init__(
        self, *, quiet: bool = False, view: View | None = None, teller: Teller | None = None
    ) -> None:
        self._quiet = quiet
        self._teller = teller
        self._is_terminal = console.can_draw() and not quiet
        self._printer = Printer(view) if view else None
        self._reader: OutputReader | None = None
        self._notices: dict[str, object] = {}
        self._silent: set[str] = set()
        self._stages: dict[str, str] = {}
        self._sending: dict[str, float] = {}
        self._line = ""
        self._start = time.monotonic()
        self._unheard = 0.0
        self.fleet: Fleet | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._show("")
        if self._is_line_open:
            console.say(err=True)
        if self.fleet and not self._quiet:
            console.print_malformed(self.fleet.malformed)

    @property
    def _is_line_open(self) -> bool:
        """Whether a line of output on this terminal is not ended: it stays as it is."""
        return bool(self._printer and self._printer.is_line_open and self._is_terminal)

    def reads(self, fleet: Fleet, *, since: int = 0) -> None:
        """Print the output of this launch from now on, as far as it is younger than `since`."""
        if self._teller:
            self._teller.launch = fleet.launch
        if self._printer:
            self._reader = OutputReader(fleet.store, fleet.launch, since)

    def step(self, name: str) -> None:
        """Show the step that begins on this machine."""
        self._show(name)

    def begins(self, fleet: Fleet) -> None:
        """Say by which name a launch in a cloud can be looked at."""
        self.fleet = fleet
        self.reads(fleet)
        if fleet.is_remote and fleet.provisioner and not self._quiet:
            self._show("")
            made = console.count(fleet.count, "instance")
            end = ""
            if fleet.ends:
                end = f", until {fleet.ends} at most" if fleet.ends != "never" else ", with no end"
            on = f"on `{fleet.provisioner.name}`{end}"
            console.say(f"launch {fleet.launch}: {made} {on}", err=True)

    def interrupted(self, seconds: float) -> None:
        """Say what is waited for; the next Ctrl-C comes through again."""
        import threading

        from envboot.cli import arm_interrupts

        if threading.current_thread() is threading.main_thread():
            arm_interrupts()
        self._show("")
        if not self._quiet:
            console.say(
                f"interrupted the command, which has {seconds:.0f} s to end; Ctrl-C again ends "
                "the instances",
                err=True,
            )

    def ended(self, fleet: Fleet, instances: Sequence[Instance]) -> None:
        """Say what does not run, and cost, any more."""
        if fleet.is_remote and not self._quiet:
            self._show("")
            names = name_some([instance.name for instance in instances]) or "none had started"
            console.say(f"ended the instances of {fleet.launch}: {names}", err=True)

    def notes(self, notes: Sequence[Problem]) -> None:
        """Warn of what will not arrive as it is; with `--json` the document has it."""
        if not self._quiet:
            self._show("")
            console.print_notes(notes)

    def flush(self, outcomes: Sequence[Outcome]) -> None:
        """Print the output that came last, to its end."""
        if not (self._printer and self._reader):
            return
        self._print_output(outcomes)
        while not all(map(self._reader.is_complete, outcomes)):
            self._print_output(outcomes)
        for number, outcome in enumerate(outcomes):
            if outcome.reports.command or outcome.gone:
                self._printer.finish(outcome, self._find_label(outcomes, number))

    def progress(self, outcomes: Sequence[Outcome]) -> None:
        """Print new output, and where each instance is."""
        self._unheard = 0.0
        texts = []
        if self._teller:
            self._teller.outcomes = outcomes
        self._print_output(outcomes)
        for outcome in outcomes:
            self._print_notice(outcome)
            stage, done, total = find_progress(outcome)
            text = f"{stage} {done >> 20} of {total >> 20} MB" if total else stage
            texts.append(text)
            name = outcome.instance.name
            if len(outcomes) <= EACH:
                self._tell_stage(name, stage)
        self._print_silence(outcomes)
        counts = {text: texts.count(text) for text in texts}
        many = ", ".join(f"{number} {text}" for text, number in counts.items())
        if len(outcomes) > EACH:
            self._tell_stage(f"{len(outcomes)} instances", many)
        self._show(texts[0] if len(texts) == 1 else many)

    def silence(self, error: EnvbootError, seconds: float) -> None:
        """Warn that there are no news, at once and then every minute."""
        if not self._quiet and seconds >= self._unheard:
            self._unheard = seconds + 60
            self._show("")
            since = f" for {seconds:.0f} s" if seconds >= 1 else ""
            console.print_warning(
                f"No news{since}: {error.message}; the instances keep running, and envboot tries"
                " again"
            )

    def _tell_stage(self, name: str, stage: str) -> None:
        """Print where an instance is, or how many are where, where nobody watches."""
        if stage == SENDING:
            since = self._sending.setdefault(name, time.monotonic())
            if time.monotonic() - since < BRIEF:
                return
        if self._stages.get(name) != stage and not self._is_terminal and not self._quiet:
            self._stages[name] = stage
            console.say(f"{name}: {stage}", err=True)

    def _print_output(self, outcomes: Sequence[Outcome]) -> None:
        """Print what commands wrote since the last look."""
        if not (self._printer and self._reader):
            return
        labels = {
            each.instance.name: self._find_label(outcomes, number)
            for number, each in enumerate(outcomes)
        }
        for outcome, records in self._reader.read_new(outcomes):
            self._show("")
            self._printer.print_records(outcome, records, labels[outcome.instance.name])

    def _print_notice(self, outcome: Outcome) -> None:
        """Say once that the platform is about to take an instance back."""
        notice, name = outcome.reports.notice, outcome.instance.name
        if notice and self._notices.get(name) != notice:
            self._notices[name] = notice
            self._show("")
            if not self._quiet:
                console.print_warning(f"`{name}`: {notice.notice} at {notice.time}")

    def _print_silence(self, outcomes: Sequence[Outcome]) -> None:
        """Say once which instances in a cloud have not reported yet, and what to look at."""
        waited = time.monotonic() - self._start
        if waited < SILENT or self._quiet:
            return
        silent = [
            each.instance.name
            for each in outcomes
            if not (each.reports or each.instance.root or each.gone)
            and each.instance.name not in self._silent
        ]
        if silent:
            self._silent.update(silent)
            self._show("")
            has, boots = ("has", "it boots") if len(silent) == 1 else ("have", "they boot")
            minutes = f"{waited / 60:.0f} minutes"
            console.print_warning(
                f"{name_some(silent)} {has} reported nothing for {minutes}: {boots} slowly, or "
                "cannot reach the bucket. `envboot logs --console` shows consoles, `envboot "
                "doctor` tries the bucket"
            )

    def _show(self, text: str) -> None:
        """Draw the one line of progress anew, on a terminal."""
        if not self._is_terminal or self._is_line_open:
            return
        clock = f"{time.monotonic() - self._start:6.1f} s  " if text else ""
        if text or self._line:
            # A longer line would go on in the next row, which nothing wipes away.
            room = shutil.get_terminal_size().columns - 1
            try:
                console.draw(f"{clock}{text}", room)
            except OSError:
                # The terminal was closed; what was started must still be ended.
                self._is_terminal = False
        self._line = text

    def _find_label(self, outcomes: Sequence[Outcome], number: int) -> str:
        """Return what precedes the lines of an instance where there are several: its rank."""
        if len(outcomes) == 1:
            return ""
        outcome = outcomes[number]
        if outcome.rank is not None:
            return f"[{outcome.rank}] "
        # They were started in the order of their ranks; others have not reported theirs.
        is_ours = self.fleet and self.fleet.is_ours
        return f"[{number if is_ours else outcome.instance.name}] "
