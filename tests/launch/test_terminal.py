"""What stays on a person's screen: output whole, progress gone, nothing wider than the window."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def watch(
    workspace: Workspace,
    *arguments: str,
    columns: int = 100,
    terminal: str = "xterm",
    **variables: str,
) -> tuple[int, str]:
    """Run a launch on a pseudo-terminal; returns the exit code and all that was written to it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 30, columns, 0, 0))
    process = subprocess.Popen(
        workspace.command(*arguments),
        env={**workspace.variables, "TERM": terminal, **variables},
        cwd=workspace.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    # Reading fails when the last one that had the terminal open has closed it.
    with contextlib.suppress(OSError):
        while block := os.read(ours, 65536):
            written += block
    os.close(ours)
    return process.wait(), written.decode()


def show(written: str) -> list[str]:
    """Return the lines of the screen in the end: CR goes back, CSI K wipes the rest away."""
    rows, column = [""], 0
    for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[^\x1b]", written):
        if token == "\r":
            column = 0
        elif token == "\n":
            rows.append("")
        elif token == "\x1b[K":
            rows[-1] = rows[-1][:column]
        elif token[0] != "\x1b":
            rows[-1] = rows[-1][:column].ljust(column) + token + rows[-1][column + 1 :]
            column += 1
    return rows


def printed(written: str) -> list[str]:
    """Return the lines of the screen after the environment and the warnings, which come first."""
    rows = show(written)
    while rows[0].startswith(("environment  ", "warning: ")):
        del rows[0]
    return rows


def drawn(written: str) -> list[str]:
    """Return every progress line that was drawn."""
    return re.findall(r"\r\x1b\[K( *\d+\.\d s  [^\r\n\x1b]*)", written)


def test_output_stays_and_progress_goes(warm: Workspace) -> None:
    script = "echo one; sleep 0.4; echo two"
    code, written = watch(warm, "--", "sh", "-c", script)
    assert code == 0
    rows = printed(written)
    assert rows[:2] == ["one", "two"]
    outcome = r"launch \S+: 1 ready from archive in [\d.]+ s, command [\d.]+ s, in all [\d.]+ s"
    assert re.fullmatch(outcome, rows[2])
    lines = drawn(written)
    assert any(line.endswith(" scan") for line in lines)
    assert any(line.endswith(" ready") for line in lines)
    assert not any(re.match(r" +\d+\.\d s  ", row) for row in rows)


def test_a_line_that_is_not_ended_is_not_wiped_away(warm: Workspace) -> None:
    script = "printf 'working… '; sleep 0.6; printf 'still '; sleep 0.6; echo done; printf last"
    code, written = watch(warm, "--", "sh", "-c", script)
    assert code == 0
    assert printed(written)[:2] == ["working… still done", "last"]


def test_progress_is_never_wider_than_the_window(warm: Workspace) -> None:
    code, written = watch(warm, "--count", "4", "--", "sleep", "0.3", columns=22)
    assert code == 0
    lines = drawn(written)
    assert max(map(len, lines)) == 21
    assert not any(re.search(r"\d s  ", row) for row in show(written) if not row.startswith("    "))


def test_a_terminal_that_cannot_draw_gets_lines(warm: Workspace) -> None:
    code, written = watch(warm, "--", "echo", "hello", terminal="dumb")
    assert code == 0
    assert "\x1b" not in written
    assert "-0: ready\r\n" in written


def test_colours_are_left_out_on_request(warm: Workspace) -> None:
    for wish in ("", "1"):
        code, written = watch(warm, "--", "sh", "-c", "exit 3", NO_COLOR=wish)
        assert code == 3
        assert ("\x1b[31m" in written) == (not wish)


def test_json_is_all_that_is_written_even_on_a_terminal(warm: Workspace) -> None:
    code, written = watch(warm, "--json", "--", "echo", "hello")
    assert code == 0
    assert written.startswith("{")
    assert written.endswith("}\r\n")


def test_closing_the_terminal_ends_the_launch(warm: Workspace) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(warm.folder)
        words = warm.command("--", "sh", "-c", "echo started; sleep 600")
        os.execvpe(words[0], words, {**warm.variables, "TMPDIR": str(warm.folder)})
    written = b""
    while b"started" not in written:
        written += os.read(terminal, 65536)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert warm.survivors() == warm.leftovers() == []
    assert not list(warm.folder.glob("envboot-*.log"))
