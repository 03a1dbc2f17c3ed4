"""Code that belongs to no distribution: which files of it travel, and where they go."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bootstrap.errors import LISTED, LayerError, name_some
from bootstrap.layer.binaries import find_misfit, is_native, read_binary
from bootstrap.layer.sources import Entry, list_files, list_ignored
from bootstrap.scan.document import Loose, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from bootstrap.lock import Target

PATH = "lib/envboot/path"
"""Below the prefix; what stands here is on `sys.path`."""

_OUTPUT = re.compile(r"-o|--?out(put|file)?([-_].*)?")
"""Options that name what a command writes."""


class File(NamedTuple):
    """One file: its path below the loose folder, where it is here, and what it is."""

    path: str
    source: str
    executable: bool
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """The loose code of one folder; `place` is where it goes, None for site-packages itself."""

    loose: Loose
    place: str | None
    files: tuple[File, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """All loose code, folders in the order of the path; `notes` say what stays here."""

    folders: tuple[Folder, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def files(self) -> list[File]:
        """Every file of every folder."""
        return [file for folder in self.folders for file in folder.files]

    @property
    def digest(self) -> str | None:
        """The sha256 (hex) over places, execute bits and contents; None without any file."""
        total = hashlib.sha256()
        for folder in self.folders:
            total.update(os.fsencode(f"{folder.loose.origin}\0{folder.place}\n"))
            for file in folder.files:
                content = hashlib.sha256(_read(file)).hexdigest()
                total.update(os.fsencode(f"{file.path}\0{file.executable:d}{content}\n"))
        return total.hexdigest() if self.folders else None

    def find_place(self, folder: Path, path: str) -> str | None:
        """Return where below the prefix a file of the working folder goes, None if nowhere."""
        for each in self.folders:
            is_current = each.loose.origin == "current" and folder.samefile(each.loose.folder)
            if is_current and any(file.path == path for file in each.files):
                return f"{each.place}/{path}"
        return None

    def render_path(self) -> str:
        """Return the `.pth` that puts every folder on `sys.path`, where it was on the client.

        Python runs its one line as it starts: the prefix is known then, and not before. In a
        virtual environment it does so twice (`site.main` of Python before 3.14).
        """
        parts = []
        for change, origins in (("[:0] =", ("current", "pythonpath")), (" +=", ("pth",))):
            places = [
                ascii(f"/{each.place}") for each in self.folders if each.loose.origin in origins
            ]
            if places:
                folders = ", ".join(f"sys.prefix + {place}" for place in places)
                known = f"sys.prefix + {places[0]} in sys.path"
                parts.append(f"sys.path{change} [] if {known} else [{folders}]")
        return f"import sys; {'; '.join(parts)}\n"


def find_named(words: Sequence[str], folder: Path) -> dict[int, str]:
    """Return which words of a command are files of `folder`: number of the word to path in it.

    A word may be `--option=FILE`. What an option for output names is about to be written.
    """
    named = {}
    before = ""
    for number, word in enumerate(words):
        option, value = _split(word)
        path = os.path.normpath(value)
        # As in a shell, a program without a slash is looked for on PATH.
        is_path = number > 0 or "/" in value
        # A whole program may be a word: no file's name is that long, and `Path` would raise.
        is_file = os.path.isfile(folder / value)  # noqa: PTH113
        is_output = _OUTPUT.fullmatch(option.rstrip("=") or before)
        if is_path and is_file and not is_output and not path.startswith(("/", "../")):
            named[number] = path
        before = word
    return named


def _split(word: str) -> tuple[str, str]:
    """Split `--option=value` behind `=`; any other word is a value."""
    if word.startswith("-") and "=" in word:
        end = word.index("=") + 1
        return word[:end], word[end:]
    return "", word


def add_named(loose: Sequence[Loose], folder: Path, paths: Collection[str]) -> tuple[Loose, ...]:
    """Add files of the working folder to its loose code, first on the path.

    Python looks for modules beside a script first, so a script's own folder comes with it.
    """
    added = {path.rpartition("/")[0] if path.endswith(".py") else path for path in paths}
    added = (added | {path for path in paths if "/" not in path}) - {""}
    if not added:
        return tuple(loose)
    current = [each for each in loose if each.origin == "current"]
    names = added.union(*(each.names for each in current))
    first = Loose(folder=os.fspath(folder), origin="current", names=tuple(sorted(names)))
    return (first, *(each for each in loose if each.origin != "current"))


def place_words(
    words: Sequence[str], folder: Path, code: Code | None
) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Return a command as the guest reads it, and what it names that will not be there.

    NUL stands for the prefix, which the agent knows: no argument can have one of its own.
    """
    placed, notes = list(words), []
    for number, path in find_named(words, folder).items():
        option, value = _split(words[number])
        place = code.find_place(folder, path) if code else None
        if place:
            placed[number] = f"{option}\0/{place}"
        else:
            message = "Is a file of this folder, which will not be on the machines"
            notes.append(Problem(subject=value, message=message))
    return tuple(placed), tuple(notes)


def collect(
    loose: Sequence[Loose],
    *,
    brought: Mapping[str, Collection[str]],
    exclude: Sequence[str],
    limit: int,
) -> Code:
    """List what travels, at most `limit` MB and nothing that the patterns of `exclude` match.

    `brought` are the top-level names that projects' wheels bring, by the project's folder.

    Raises:
        LayerError: it is more than the limit; the largest parts are named.
    """
    folders: list[Folder] = []
    notes: list[Problem] = []
    number = 0
    for each in loose:
        names = _without_brought(each, brought)
        files, left = _list_folder(Path(each.folder), names, exclude)
        notes += left
        if not files:
            continue
        place = None
        if each.origin != "site":
            place = f"{PATH}/{number}-{Path(each.folder).name}"
            number += 1
        folders.append(Folder(loose=each, place=place, files=tuple(files)))
    code = Code(folders=tuple(folders), notes=tuple(notes))
    _refuse_too_much(code, limit)
    return code


def check_code(code: Code, target: Target) -> None:
    """Refuse extension modules that the target cannot run, all at once.

    Of several builds of one module, one that runs is enough.

    Raises:
        LayerError: naming every such module.
    """
    # On this machine itself, what runs here runs.
    if target.host_python:
        return
    modules: dict[str, list[File]] = {}
    for file in code.files:
        if is_native(file.path):
            place, _, name = file.source.rpartition("/")
            modules.setdefault(f"{place}/{name.partition('.')[0]}", []).append(file)
    causes = []
    for files in modules.values():
        read = (read_binary(file.path, _read(file)) for file in files)
        misfit = find_misfit([binary for binary in read if binary], target)
        if misfit:
            causes.append(misfit.message)
    if causes:
        raise LayerError(
            f"Cannot run {len(causes)} of the loose extension modules on `{target.platform}`",
            causes=tuple(sorted(causes)[:LISTED]),
            hint="Make a package of them, so that they are built for the guests, leave them out "
            "with `exclude` in `[tool.envboot]`, or bring no loose code with `--no-loose`",
        )


def _without_brought(loose: Loose, brought: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names of which no project's wheel brings the files already."""
    folder = Path(os.path.realpath(loose.folder))
    shipped = {
        name
        for project, names in brought.items()
        if folder.is_relative_to(os.path.realpath(project))
        for name in names
    }
    return [name for name in loose.names if name not in shipped]


def _list_folder(
    folder: Path, names: Sequence[str], exclude: Sequence[str]
) -> tuple[list[File], list[Problem]]:
    from pathspec import GitIgnoreSpec

    if not names:
        return [], []
    spec = GitIgnoreSpec.from_lines(exclude)
    files: list[File] = []
    excluded, lost = [], []
    for entry in list_files(folder, names):
        for path, file in _follow(folder, entry, frozenset()):
            if spec.match_file(path):
                excluded.append(path)
            elif file is None:
                lost.append(path)
            else:
                files.append(file)
    reasons = {
        "`.gitignore` leaves out": list_ignored(folder, names),
        "`exclude` leaves out": excluded,
        "Links that lead nowhere, or above themselves, stay here:": lost,
    }
    notes = [
        Problem(subject=os.fspath(folder), message=f"{reason} {name_some(sorted(paths))}")
        for reason, paths in reasons.items()
        if paths
    ]
    return sorted(files), notes


def _follow(
    folder: Path, entry: Entry, above: frozenset[Path]
) -> Iterator[tuple[str, File | None]]:
    """Yield the files behind an entry: what a link leads to would not be there on the guest."""
    path = folder / entry.path
    # Resolving takes ten times as long as a look at the file, and few entries are links.
    target = path.resolve() if entry.link else path
    if target.is_file():
        info = target.stat()
        is_executable = bool(info.st_mode & 0o100)
        yield entry.path, File(entry.path, os.fspath(target), is_executable, info.st_size)
    elif not target.is_dir() or target in above or path.parent.resolve().is_relative_to(target):
        yield entry.path, None
    else:
        for inner in list_files(target):
            for name, file in _follow(target, inner, above | {target}):
                place = f"{entry.path}/{name}"
                yield place, file and file._replace(path=place)


def _read(file: File) -> bytes:
    try:
        return Path(file.source).read_bytes()
    except OSError as error:
        raise LayerError(
            f"Failed to read `{file.source}`",
            causes=(error.strerror or str(error),),
            hint="Leave it out with `exclude` in `[tool.envboot]`",
        ) from error


def _refuse_too_much(code: Code, limit: int) -> None:
    total = sum(file.size for file in code.files)
    if total <= limit * 1_000_000:
        return
    sizes: dict[str, int] = {}
    for folder in code.folders:
        for file in folder.files:
            # Two levels: enough to find it, few enough to be read.
            part = "/".join([folder.loose.folder, *file.path.split("/")[:2]])
            sizes[part] = sizes.get(part, 0) + file.size
    # What would show as 0.0 MB is no help.
    large = [part for part in sizes if sizes[part] >= 50_000]
    largest = sorted(large, key=lambda part: (-sizes[part], part))[:5]
    raise LayerError(
        f"Expected at most {limit} MB of code that belongs to no package, "
        f"found {total / 1e6:,.1f} MB",
        causes=tuple(f"`{part}` has {sizes[part] / 1e6:,.1f} MB" for part in largest),
        hint="Leave files out with `exclude` in `[tool.envboot]` or in `.gitignore`, raise "
        "`loose-limit` there, or bring no loose code with `--no-loose`",
    )
