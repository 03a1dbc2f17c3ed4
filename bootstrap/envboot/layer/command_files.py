"""Files and folders that a command names: which of them travel, and what the guest reads."""

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

_PYTHON = re.compile(r"(.*/)?python[\d.]*")
"""Python itself, whatever its version."""

_EVERYWHERE = re.compile(r"/((bin|dev|etc|lib\d*|proc|run|sbin|sys|usr)(/.*)?|tmp|var/tmp)?")
"""What every Linux has, or may have: the word says no more than `/bin/sh` does."""


def find_named(words: Sequence[str], folder: Path) -> dict[int, str]:
    """Return which words of a command are files of `folder`: number of the word to path in it."""
    named = _find_paths(words, folder)
    return {
        number: path
        for number, path in named.items()
        if not _is_outside(path) and (folder / path).is_file()
    }


def _find_paths(words: Sequence[str], folder: Path) -> dict[int, str]:
    """Return which words are files or folders here, by paths as seen from `folder`.

    A word may be `--option=FILE`. What an option for output names is about to be written, and
    behind `-m` is a module.
    """
    named = {}
    before = ""
    for number, word in enumerate(words):
        option, value = _split(word)
        # As in a shell, a program without a slash is looked for on PATH.
        is_path = number > 0 or "/" in value
        # A whole program may be a word: no file's name is that long, and `Path` would raise.
        exists = value not in ("", ".", "..") and os.path.exists(folder / value)  # noqa: PTH110
        is_output = before == "-m" or _OUTPUT.fullmatch(option.rstrip("=") or before)
        if is_path and exists and not is_output:
            named[number] = _relate(folder / value, folder)
        before = word
    return named


def _relate(path: Path, folder: Path) -> str:
    """Return a path as seen from `folder`, to which links may lead."""
    plain = os.path.relpath(path, folder)
    if not _is_outside(plain):
        return plain
    return os.path.relpath(os.path.realpath(path.parent) + f"/{path.name}", folder)


def _is_outside(path: str) -> bool:
    return path == ".." or path.startswith("../")


def _split(word: str) -> tuple[str, str]:
    """Split `--option=value` behind `=`; any other word is a value."""
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
    """Return a command as the guest reads it, and what it names that will not be there.

    NUL stands for the prefix, which the agent knows: no argument can have one of its own. Where
    the command runs on this machine (`is_here`), absolute paths lead where they lead now.
    """
    placed, notes = list(words), []
    for number, path in _find_paths(words, folder).items():
        option, value = _split(words[number])
        place = code.find_place(folder, path) if code and not _is_outside(path) else None
        if place and code and not _may_be_a_name(code, folder, path, value):
            placed[number] = f"{option}\0/{place}"
        elif not (value.startswith("/") and (is_here or _EVERYWHERE.fullmatch(value))):
            message = _explain(folder, path, has_place=place is not None)
            notes.append(Problem(subject=value, message=message))
    if script := _find_missing(words, folder):
        message = "Is not in this folder, and will not be on the machines: Python cannot run it"
        notes.append(Problem(subject=script, message=message))
    return tuple(placed), tuple(notes)


def _find_missing(words: Sequence[str], folder: Path) -> str | None:
    """Return the script that Python is to run, where it is none of this folder's.

    One with an absolute path may well be on the machines.
    """
    if not words or not _PYTHON.fullmatch(words[0]):
        return None
    rest = iter(words[1:])
    for word in rest:
        if word in ("-W", "-X"):
            next(rest, None)
        elif not word.startswith("-") or word in ("-", "-c", "-m"):
            break
    else:
        return None
    is_script = word.endswith(".py") and not word.startswith("/")
    return word if is_script and not (folder / word).exists() else None


def _may_be_a_name(code: Code, folder: Path, path: str, value: str) -> bool:
    """Whether a folder of code may not be meant: `manage.py test`; a slash says that it is."""
    current = [each.loose for each in code.folders if each.loose.origin == "current"]
    is_code = any(path in each.names for each in current)
    return is_code and "/" not in value and (folder / path).is_dir()


def _explain(folder: Path, path: str, *, has_place: bool) -> str:
    if _is_outside(path):
        return "Is outside of this folder, and will not be on the machines"
    if has_place:
        return f"Is a folder of code, but stays a word: for its place there write `{path}/`"
    if (folder / path).is_dir():
        return "Is a folder of this folder, which will not be on the machines: name it in `include`"
    return "Is a file of this folder, which will not be on the machines"
