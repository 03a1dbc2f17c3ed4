"""Every child process of the client: no shell, a stated environment, ended with its group.

Nothing else may import `subprocess`: a lint rule holds that. The agent and the probe, which run
elsewhere, have their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeAlias

from envboot.redaction import hide_values, redact
from envboot.tool_variables import clean_environment

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Spawned: TypeAlias = "subprocess.Popen[bytes]"
"""What `spawn` returns: a process that nobody waits for; it has `pid`, `poll()`, `returncode`."""

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL for a group that is ended."""
_POLL = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A process that has ended: its exit code (negative: the signal), what it wrote, in bytes."""

    code: int
    stdout: bytes = b""
    stderr: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """What it wrote to stdout, as text."""
        return self.stdout.decode(errors="replace")

    @property
    def errors(self) -> str:
        """What it wrote to stderr, as text without logins in URLs and values of secrets."""
        return redact(hide_values(self.stderr.decode(errors="replace"), self.environment))

    def last_errors(self, most: int = 5) -> tuple[str, ...]:
        """Return the last lines of stderr for an error's causes; without any, the exit code."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return tuple(lines[-most:]) or (f"Exit code {self.code}",)


def find_program(
    name: str, environment: Mapping[str, str], folder: Path, *more: Path
) -> str | None:
    """Return the absolute path of a program on PATH, then in the directories `more`, else None.

    Relative entries of PATH are seen from `folder`.
    """
    import shutil  # 4 ms that few callers need

    entries = environment.get("PATH", os.defpath).split(os.pathsep)
    places = [*(os.fspath(folder / entry) for entry in entries), *map(os.fspath, more)]
    return shutil.which(name, path=os.pathsep.join(places))


class Running:
    """A process that was started and is waited for later."""

    def __init__(
        self, process: subprocess.Popen[bytes], environment: Mapping[str, str], *, grouped: bool
    ) -> None:
        self._process = process
        self._environment = environment
        self._grouped = grouped

    def finish(
        self,
        *,
        timeout: float | None = None,
        input: bytes | None = None,  # noqa: A002
        stop: threading.Event | None = None,
    ) -> Completed:
        """Wait until it has ended; whatever ends the wait ends its whole group too.

        Only the main thread is interrupted: it sets `stop` for waits in other threads, for
        processes without input.

        Raises:
            TimeoutError: it still ran after `timeout` seconds.
            InterruptedError: `stop` was set.
        """
        with self._process as process:
            try:
                stdout, stderr = self._communicate(input, timeout, stop)
            except BaseException as error:
                self._end()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise TimeoutError(f"still running after {timeout:g} s") from error
                raise
        return Completed(
            code=process.returncode,
            stdout=stdout or b"",
            stderr=stderr or b"",
            environment=self._environment,
        )

    def _communicate(
        self, data: bytes | None, timeout: float | None, stop: threading.Event | None
    ) -> tuple[bytes, bytes]:
        if stop is None:
            return self._process.communicate(data, timeout=timeout)
        # Python before 3.14 writes nothing more once `communicate` is called again.
        assert data is None, "a process with input cannot be stopped"
        last = None if timeout is None else time.monotonic() + timeout
        while True:
            if stop.is_set():
                raise InterruptedError("ended before it was done")
            try:
                return self._process.communicate(timeout=_POLL)
            except subprocess.TimeoutExpired:
                # What it has written so far is not lost.
                if last is not None and time.monotonic() >= last:
                    raise

    def _end(self) -> None:
        """End the process and what it has started: politely, and then not."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            if self._grouped and hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def start(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    piped: bool = False,
    terminal: bool = False,
) -> Running:
    """Start a process whose output is captured, or goes to `log`.

    `environment` is cleaned for the program (`clean_environment`), `variables` come on top as
    they are. With `piped` it reads what `finish` is given, else nothing. It leads a process group
    of its own; with `terminal` it stays in ours, so that it may ask for a password there.

    Raises:
        OSError: the program is not there, or cannot be executed.
    """
    given = clean_environment(os.fspath(command[0]), environment) | dict(variables or {})
    output = subprocess.PIPE if log is None else log
    process = subprocess.Popen(
        [os.fspath(each) for each in command],
        env=given,
        cwd=folder,
        stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=not terminal,
    )
    return Running(process, given, grouped=not terminal)


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
    input: bytes | None = None,  # noqa: A002
    log: IO[bytes] | None = None,
    timeout: float | None = None,
    terminal: bool = False,
) -> Completed:
    """Run a program to its end; arguments are as of `start` and `Running.finish`.

    Raises:
        OSError: the program is not there, or cannot be executed.
        TimeoutError: it still ran after `timeout` seconds; its group was ended.
    """
    running = start(
        command,
        environment=environment,
        folder=folder,
        variables=variables,
        log=log,
        piped=input is not None,
        terminal=terminal,
    )
    return running.finish(timeout=timeout, input=input)


def spawn(
    command: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> Spawned:
    """Start a program that outlives its caller, in a session of its own; it reads nothing.

    Its environment is taken as it is: it is an instance's, not a tool's.

    Raises:
        OSError: the program is not there, or cannot be executed.
    """
    return subprocess.Popen(
        [os.fspath(each) for each in command],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
