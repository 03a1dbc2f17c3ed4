"""Files and directories that a command names: which of them are sent, and what the machine reads.

The command runs in a copy of the launch directory, so a relative path is the same on both sides.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from envboot.scan.schema import Loose, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from envboot.layer.loose_files import Code

_OUTPUT = re.compile(r"-o|--?out(put|file|dir)?([-_].*)?")
"""Options that name what a command writes."""

_EVERYWHERE = re.compile(r"/((bin|dev|etc|lib\d*|proc|run|sbin|sys|usr)(/.*)?|tmp|var/tmp)?")
"""What every Linux has, or may have: the argument says no more than `/bin/sh` does."""


def find_named(words: Sequence[str], folder: Path) -> dict[int, str]:
    """Return which arguments of a command are files of `folder`: its number to the path in it."""
    named = _find_paths(words, folder)
    return {
        number: path
        for number, path in named.items()
        if not is_outside(path) and (folder / path).is_file()
    }


def _find_paths(words: Sequence[str], folder: Path) -> dict[int, str]:
    """Return which arguments are files or directories here, by paths as seen from `folder`.

    An argument may be `--option=FILE`. What an option for output names is about to be written,
    and behind `-m` is a module.
    """
    named = {}
    before = ""
    for number, word in enumerate(words):
        option, value = _split(word)
        # As in a shell, a program without a slash is looked for on PATH.
        is_path = number > 0 or "/" in value
        # A whole program may be an argument: no file's name is that long, and `Path` would raise.
        exists = value not in ("", ".", "..") and os.path.exists(folder / value)  # noqa: PTH110
        is_output = before == "-m" or _OUTPUT.fullmatch(option.rstrip("=") or before)
        if is_path and exists and not is_output:
            named[number] = relate(folder / value, folder)
        before = word
    return named


def relate(path: Path, folder: Path) -> str:
    """Return a path as seen from `folder`, to which links may lead."""
    plain = os.path.relpath(path, folder)
    if not is_outside(plain):
        return plain
    return os.path.relpath(os.path.realpath(path.parent) + f"/{path.name}", folder)


def is_outside(path: str) -> bool:
    """Whether a relative path leads out of the directory that it is seen from."""
    return path == ".." or path.startswith("../")


def _split(word: str) -> tuple[str, str]:
    """Split `--option=value` behind `=`; any other argument is a value."""
    if word.startswith("-") and "=" in word:
        end = word.index("=") + 1
        return word[:end], word[end:]
    return "", word


def add_named(
    loose: Sequence[Loose], folder: Path, paths: Collection[str], *, include: bool = False
) -> tuple[Loose, ...]:
    """Add files of the working folder to its loose code, first on the path.

    Python looks for modules beside a script first, so a script's own folder comes with it.
    With `include` the folder is there even if nothing else of it is.
    """
    added = {path.rpartition("/")[0] if path.endswith(".py") else path for path in paths}
    added = (added | {path for path in paths if "/" not in path}) - {""}
    if not added and not include:
        return tuple(loose)
    current = [each for each in loose if each.origin == "current"]
    names = added.union(*(each.names for each in current))
    first = Loose(folder=os.fspath(folder), origin="current", names=tuple(sorted(names)))
    return (first, *(each for each in loose if each.origin != "current"))


def place_words(
    words: Sequence[str], folder: Path, code: Code | None, *, is_here: bool = False
) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Return a command as the machine reads it, and what it names that will not be there.

    Absolute paths below the launch directory become relative: it has another place on the machine.
    Where the command runs on this computer (`is_here`), other absolute paths lead where they do
    now.
    """
    placed, notes = list(words), []
    for number, path in _find_paths(words, folder).items():
        option, value = _split(words[number])
        is_absolute = value.startswith("/")
        if not is_outside(path) and (path == "." or (code and code.has(path))):
            if is_absolute:
                placed[number] = f"{option}{path if number or '/' in path else f'./{path}'}"
        elif not (is_absolute and (is_here or _EVERYWHERE.fullmatch(value))):
            notes.append(Problem(subject=value, message=_explain(folder, path)))
    return tuple(placed), tuple(notes)


def _explain(folder: Path, path: str) -> str:
    if is_outside(path):
        return "Not sent: outside the directory that the command is launched from"
    if (folder / path).is_dir():
        return f'Not sent: to send the directory, write `include = ["{path}/"]` in `[tool.envboot]`'
    return "Not sent, though the command names it"
