"""Every child process of the client: no shell, a stated environment, ended with its group.

Nothing else may import `subprocess`: a lint rule holds that. The agent and the probe, which run
elsewhere, have their own.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from envboot.redaction import hide_values, redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Spawned: TypeAlias = "subprocess.Popen[bytes]"
"""What `spawn` returns: a process that nobody waits for; it has `pid`, `poll()`, `returncode`."""

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL for a group that is ended."""
# The variables that tell uv how to reach indexes, which logins to use and where its cache is. All
# others of its own choose projects, versions and places (`uv help --env`).
_UV_KEPT = re.compile(
    r"UV_(CACHE_DIR|CONCURRENT_\w+|CONFIG_FILE|CREDENTIALS_DIR|DEFAULT_INDEX|EXTRA_INDEX_URL"
    r"|FIND_LINKS|GIT_LFS|HTTP_\w+|INDEX|INDEX_STRATEGY|INDEX_URL|INDEX_\w+_(USERNAME|PASSWORD)"
    r"|INSECURE_HOST|KEYRING_PROVIDER|LINK_MODE|NATIVE_TLS|NO_CONFIG|NO_INDEX|OFFLINE"
    r"|PYTHON_INSTALL_(DIR|MIRROR)|PYTHON_CACHE_DIR|REQUEST_TIMEOUT|SYSTEM_CERTS|SSL_\w+)"
)
# What `git rev-parse --local-env-vars` prints: a hook or an alias that started us sets them, and
# they would turn every git command to that repository.
_GIT_DROPPED = re.compile(
    r"GIT_(ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|CONFIG|CONFIG_(PARAMETERS|COUNT|KEY_\d+"
    r"|VALUE_\d+)|DIR|GRAFT_FILE|IMPLICIT_WORK_TREE|INDEX_FILE|INTERNAL_SUPER_PREFIX|NAMESPACE"
    r"|NO_REPLACE_OBJECTS|OBJECT_DIRECTORY|PREFIX|REPLACE_REF_BASE|SHALLOW_FILE|WORK_TREE)"
)


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


def clean_environment(program: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a program, without those that would steer it elsewhere.

    Python loses `PYTHON…`, uv what chooses projects and versions, git what names a repository.
    """
    name = Path(program).name.removesuffix(".exe")
    kept = {}
    for variable, value in environment.items():
        if name.startswith(("python", "pypy", "uv")) and variable.startswith("PYTHON"):
            continue
        if name == "uv" and variable.startswith("UV_") and not _UV_KEPT.fullmatch(variable):
            continue
        if name in ("git", "uv") and _GIT_DROPPED.fullmatch(variable):
            continue
        kept[variable] = value
    return kept


class Running:
    """A process that was started and is waited for later."""

    def __init__(
        self, process: subprocess.Popen[bytes], environment: Mapping[str, str], *, grouped: bool
    ) -> None:
        self._process = process
        self._environment = environment
        self._grouped = grouped

    def finish(self, *, timeout: float | None = None, input: bytes | None = None) -> Completed:  # noqa: A002
        """Wait until it has ended; whatever ends the wait ends its whole group too.

        Raises:
            TimeoutError: it still ran after `timeout` seconds.
        """
        with self._process as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
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
