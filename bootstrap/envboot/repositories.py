"""git in directories that anyone may have made: it reads, and runs nothing that they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from envboot import process

if TYPE_CHECKING:
    from collections.abc import Mapping

# Options on the command line win over every configuration file, and reach the children of git.
# An empty monitor is none for every version; `false` was the name of a program before git 2.36.
QUIET_OPTIONS = (
    "--no-pager",
    "--no-optional-locks",
    "-c", "core.fsmonitor=",
    "-c", f"core.hooksPath={os.devnull}",
)  # fmt: skip
"""What every call of git gets: no file system monitor, no hooks, no pager, no index rewritten."""

_READING_OPTIONS = (
    *QUIET_OPTIONS,
    "-c", "submodule.recurse=false",
    "-c", "core.sshCommand=false",
    "-c", "core.askPass=",
    "-c", "credential.helper=",
)  # fmt: skip

# A partial clone fetches the objects that it lacks when they are read, by the transport and the
# programs that its configuration names. An allowed list wins over `protocol.<name>.allow`, which a
# configuration could set; only git since 2.39.4 and 2.45 knows the second variable.
_READING_VARIABLES = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
}

_READERS = ("check-ignore", "ls-files")
"""These compare no content with the index, so they never start a `filter` or `textconv`."""


def read_with_git(
    folder: Path,
    environment: Mapping[str, str],
    *arguments: str,
    input: bytes | None = None,  # noqa: A002
) -> tuple[int, str]:
    """Ask git about a directory; returns its exit code and output, code 127 where it cannot run.

    `arguments` begin with one of the two commands that run no program of the repository's:
    `ls-files` (without `-m`) and `check-ignore`. Commands that look at content (`status`, `diff`)
    run its clean filters, whose names are for the repository to choose. The user's own
    configuration counts: it names files to ignore.
    """
    assert arguments[0] in _READERS, arguments
    # `check-ignore` refuses the option.
    literal = ("--literal-pathspecs",) if arguments[0] == "ls-files" else ()
    command = ["git", *literal, *_READING_OPTIONS, *arguments]
    try:
        done = process.run(
            command,
            environment=environment,
            folder=folder,
            variables=_READING_VARIABLES,
            input=input,
        )
    except OSError:
        # There is none, or it takes no command of that length.
        return 127, ""
    return done.code, os.fsdecode(done.stdout)


def find_top(folder: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the top level of the checkout around an absolute, resolved directory.

    None where there is none, or where it is a home directory or above one, as with dotfiles that
    are kept in git: that is no project. git itself is not asked, because a repository can tell it
    another place (`core.worktree`).
    """
    for place in (folder, *folder.parents):
        if find_git_folder(place):
            return None if is_too_wide(place, environment) else place
    return None


def find_git_folder(top: Path) -> Path | None:
    """Return where the repository of a checkout is; None where `top` is not the top of one."""
    mark = top / ".git"
    if (mark / "HEAD").is_file():
        return mark
    try:
        # Worktrees and submodules have a file in its place (gitrepository-layout(5)).
        name, _, place = mark.read_text("utf-8", errors="surrogateescape").partition(": ")
    except OSError:
        return None
    return top / place.rstrip("\n") if name == "gitdir" and place else None


def is_too_wide(folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether a directory is a home directory, or above the user's own."""
    home = Path(environment.get("HOME") or environment.get("USERPROFILE") or "/").resolve()
    return home.is_relative_to(folder)
