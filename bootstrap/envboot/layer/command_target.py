"""The script, module or program that a command runs: refused where it is not sent."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envboot.errors import UsageError
from envboot.layer.command_files import is_outside, relate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from envboot.layer.loose_files import Code

_PYTHON = re.compile(r"python[\d.]*")
_SHELLS = frozenset({"bash", "dash", "ksh", "sh", "zsh"})
_WRAPPERS = frozenset({"env", "exec", "nice", "nohup", "setsid", "stdbuf", "time"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
# Options whose value is an argument of its own (`python --help`, bash(1), env(1), nice(1)).
_VALUED = {
    "python": frozenset({"-W", "-X", "--check-hash-based-pycs"}),
    "shell": frozenset({"-o", "+o", "-O", "+O", "--init-file", "--rcfile"}),
    "wrapper": frozenset({"-C", "-e", "-f", "-n", "-o", "-u"}),
}
# Flags may stand together (`-uc`), and the module's name may follow at once (`-mpip`).
_PYTHON_PROGRAM = re.compile(r"-[bBdEiIOPqsSuvx]*([cm])(.*)", re.DOTALL)
_SHELL_PROGRAM = re.compile(r"-[a-zA-Z]*[cs][a-zA-Z]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandTarget:
    """What a command runs: a `module`, a `script` for an interpreter, or a `program` by its path.

    `python` says that it is Python's: a script may then be a directory with a `__main__.py`.
    """

    kind: Literal["module", "script", "program"]
    name: str
    python: bool = False


def find_target(words: Sequence[str]) -> CommandTarget | None:
    """Return what a command runs; None where that is found on PATH or stands in the command."""
    start = 0
    while start < len(words):
        word = words[start]
        name = word.rpartition("/")[2]
        # What leads to an interpreter may be a program of the launch directory itself.
        if "/" in word and not word.startswith("/"):
            return CommandTarget(kind="program", name=word)
        if _PYTHON.fullmatch(name):
            return _find_python(iter(words[start + 1 :]))
        if name in _SHELLS:
            return _find_script(iter(words[start + 1 :]))
        if word.startswith("/"):
            return CommandTarget(kind="program", name=word)
        if name not in _WRAPPERS:
            return None
        start = _skip_options(words, start + 1)
    return None


def _skip_options(words: Sequence[str], start: int) -> int:
    """Return the number of the program behind a wrapper such as `env -u A B=1`."""
    while start < len(words) and (
        words[start].startswith("-") or _ASSIGNMENT.fullmatch(words[start])
    ):
        start += 2 if words[start] in _VALUED["wrapper"] else 1
    return start


def _find_python(words: Iterator[str]) -> CommandTarget | None:
    for word in words:
        program = _PYTHON_PROGRAM.fullmatch(word)
        if program:
            name = program[2] or next(words, "")
            is_module = program[1] == "m" and name
            return CommandTarget(kind="module", name=name, python=True) if is_module else None
        if word == "-":
            return None
        if word in _VALUED["python"]:
            next(words, None)
        elif not word.startswith("-"):
            return CommandTarget(kind="script", name=word, python=True)
    return None


def _find_script(words: Iterator[str]) -> CommandTarget | None:
    for word in words:
        if word in _VALUED["shell"]:
            next(words, None)
        elif word == "-" or _SHELL_PROGRAM.fullmatch(word):
            return None
        elif not word.startswith(("-", "+")):
            return CommandTarget(kind="script", name=word)
    return None


def check_command(
    words: Sequence[str],
    folder: Path,
    code: Code | None,
    *,
    prefix: str | None = None,
    loose: bool = True,
    has_module: Callable[[str], bool] | None = None,
) -> None:
    """Refuse a command whose script, module or program will not be on the machines.

    `prefix` is the environment here, `loose` says that loose code is sent. `has_module` says
    whether what is installed has a top-level module; it is None where nobody knows. Programs that
    are found on PATH, and absolute paths outside of `folder`, may well be on the machines.

    Raises:
        UsageError: it names what is not sent, why, and what to do.
    """
    target = find_target(words)
    if target is None:
        return
    if target.kind == "module":
        _check_module(target.name, folder, code, loose=loose, has_module=has_module)
        return
    path = relate(folder / target.name, folder)
    if target.name.startswith("/") and is_outside(path):
        return
    file = code.find_file(path) if code else None
    is_program = target.kind == "program"
    if file and (file.executable or not is_program):
        return
    if target.python and code and code.find_file(os.path.normpath(f"{path}/__main__.py")):
        return
    if file:
        raise UsageError(
            f"Cannot run `{target.name}`: it is not executable",
            hint=f"Make it so: `chmod +x {target.name}`",
        )
    cause, hint = _explain(path, folder, code, prefix=prefix, loose=loose)
    raise UsageError(
        f"Cannot run `{target.name}`: it will not be on the machines", causes=(cause,), hint=hint
    )


def _explain(
    path: str, folder: Path, code: Code | None, *, prefix: str | None, loose: bool
) -> tuple[str, str]:
    """Return why a file is not sent, and what to do."""
    place = Path(os.path.normpath(folder / path))
    if not place.exists():
        sent = [file.path for each in code.folders for file in each.files] if code else []
        near = get_close_matches(path, sent, n=1)
        hint = (
            f"Did you mean `{near[0]}`?" if near else "Correct the path, or `cd` to its directory"
        )
        return f"`{place}` was not found", hint
    if prefix and place.parent.name in ("bin", "Scripts") and place.is_relative_to(prefix):
        return (
            "It is a program of the environment here, which has another place there",
            f"Write `{place.name}`: the environment's programs are on PATH",
        )
    if is_outside(path):
        top = os.path.commonpath([place, folder])
        return f"It is outside of `{folder}`, which is sent", f"Launch from above: `cd {top}`"
    if not loose:
        return "`--no-loose` leaves out the code of this directory", "Drop `--no-loose`"
    if place.is_dir():
        return "It is a directory without a `__main__.py` that is sent", "Name a script in it"
    notes = [note.message for note in code.notes if f"`{path}`" in note.message] if code else []
    return (
        notes[0] if notes else "It is not part of the code that is sent",
        f'To send it, write `include = ["{path}"]` in `[tool.envboot]`, and no `exclude` for it',
    )


def _check_module(
    name: str,
    folder: Path,
    code: Code | None,
    *,
    loose: bool,
    has_module: Callable[[str], bool] | None,
) -> None:
    top = name.partition(".")[0]
    folders = [each for each in code.folders if each.has_module(top)] if code else []
    if not folders:
        if has_module is None or has_module(top):
            return
        is_here = (folder / top).is_dir() or (folder / f"{top}.py").is_file()
        raise UsageError(
            f"Cannot run `python -m {name}`: the module will not be on the machines",
            causes=(
                f"`{top}` is in `{folder}`, and not sent"
                if is_here
                else f"Neither the environment nor `{folder}` has a module `{top}`",
            ),
            hint="Drop `--no-loose`"
            if is_here and not loose
            else f"Install what brings it, or send it with `--add {top}`",
        )
    path = name.replace(".", "/")
    # What is installed may have another part of a namespace.
    may_be_there = has_module is None or has_module(top)
    if not any(each.can_run(name) for each in folders) and not may_be_there:
        raise UsageError(
            f"Cannot run `python -m {name}`: the module will not be on the machines",
            causes=(
                f"`{folders[0].loose.folder}` has neither `{path}.py` nor `{path}/__main__.py`",
            ),
            hint="Correct the module's name",
        )
