"""Code that belongs to no distribution: which files of it travel, and where they go."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from envboot.agent.work import SENT
from envboot.errors import LISTED, LayerError, name_some
from envboot.layer.binaries import find_misfit, is_native, read_binary
from envboot.layer.credential_files import Reason, find_reason, holds_values
from envboot.layer.left_behind import find_staying
from envboot.layer.links import Links, Reached, names_exactly
from envboot.layer.project_files import Entry, list_files, list_ignored, list_matching
from envboot.scan.schema import Loose, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from envboot.lock.target import Target
    from envboot.session import Session

PATH = "lib/envboot/path"
"""Below the prefix: the directories of `PYTHONPATH` and of `.pth` files."""

_FILES = 10_000
"""More of them are no code, but data: a folder counts as code for one script in it."""

_IGNORED, _EXCLUDED = _BRIEF = ("`.gitignore` leaves out", "`exclude` leaves out")
_OUTSIDE = (
    "Not sent (links that lead out of the project; name one exactly in `include` to follow it):"
)
_LOST = "Not sent (links that lead nowhere, or to a directory around them):"
_VALUES = "Sent as code, though named like a file of secrets (`exclude` keeps it here):"
_WHOLE = (*(reason.value for reason in Reason), _OUTSIDE, _LOST, _VALUES)


class LooseFile(NamedTuple):
    """One file: its path below the loose folder, where it is here, and what it is."""

    path: str
    source: str
    executable: bool
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LooseFolder:
    """The loose code of one folder; `place` is where it goes, None for site-packages itself."""

    loose: Loose
    place: str | None
    files: tuple[LooseFile, ...]

    def has_module(self, top: str) -> bool:
        """Whether there is a top-level module, package or namespace of that name."""
        return any(
            file.path.startswith(f"{top}/") or _is_module(file.path, top) for file in self.files
        )

    def can_run(self, name: str) -> bool:
        """Whether `python -m NAME` finds a module, or a package with a `__main__`."""
        path = name.replace(".", "/")
        return any(
            _is_module(file.path, path) or _is_module(file.path, f"{path}/__main__")
            for file in self.files
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """All loose code, folders in the order of the path; `notes` say what stays here."""

    folders: tuple[LooseFolder, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def files(self) -> list[LooseFile]:
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

    def find_file(self, path: str) -> LooseFile | None:
        """Return a file of the launch directory, by its path below it, if it is sent."""
        current = (each for each in self.folders if each.loose.origin == "current")
        return next((file for each in current for file in each.files if file.path == path), None)

    def has(self, path: str) -> bool:
        """Whether a file of the launch directory is sent, or a directory with something in it."""
        return any(
            f"{file.path}/".startswith(f"{path}/")
            for each in self.folders
            if each.loose.origin == "current"
            for file in each.files
        )

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


def collect(
    loose: Sequence[Loose], session: Session, *, brought: Mapping[str, Collection[str]]
) -> Code:
    """List what travels, within the limit of the settings and without what they exclude.

    What they include goes with the code of the current folder. `brought` are the top-level
    names that projects' wheels bring, by the project's folder.

    Raises:
        LayerError: it is more than the limit; the largest parts are named.
    """
    folders: list[LooseFolder] = []
    notes: list[Problem] = []
    number = 0
    for each in loose:
        names = _without_brought(each, brought)
        is_current = each.origin == "current"
        wanted = _list_included(Path(each.folder), session, is_current=is_current)
        files, left = _list_folder(
            Path(each.folder), names, session, wanted, is_site=each.origin == "site"
        )
        notes += left
        if not files:
            continue
        if each.origin != "site" and not _is_of_project(each, brought):
            elsewhere = [
                *(other.folder for other in loose),
                *(
                    f"{project}/{name}"
                    for project in brought
                    for name in ("src", *brought[project])
                ),
            ]
            travelling = [file.path for file in files]
            notes += find_staying(each, travelling, elsewhere, session)
        place = SENT if is_current else None
        if each.origin in ("pythonpath", "pth"):
            name = Path(each.folder).name
            # The metadata of an egg is found by the directory's own name.
            place = f"{PATH}/{number}{'/' if name.endswith('.egg') else '-'}{name}"
            number += 1
        folders.append(LooseFolder(loose=each, place=place, files=tuple(files)))
    code = Code(folders=tuple(folders), notes=tuple(notes))
    _refuse_too_much(code, session.settings.loose_limit)
    return code


def _list_included(folder: Path, session: Session, *, is_current: bool) -> list[Entry]:
    """List what `include` names in a directory of the path: elsewhere by `../` alone."""
    include = session.settings.include
    if is_current or not include:
        return list_matching(folder, include) if include else []
    start = os.path.relpath(folder, session.folder) + "/"
    below = [pattern[len(start) :] for pattern in include if pattern.startswith(start)]
    return list_matching(folder, [f"/{pattern}" for pattern in below]) if below else []


def _is_of_project(loose: Loose, brought: Mapping[str, Collection[str]]) -> bool:
    """Whether a `.pth` file leads into a project: what its wheel lacks is said of the project."""
    folder = Path(os.path.realpath(loose.folder))
    return loose.origin == "pth" and any(
        folder.is_relative_to(os.path.realpath(project)) for project in brought
    )


def _is_module(path: str, stem: str) -> bool:
    return path == f"{stem}.py" or (is_native(path) and path.startswith(f"{stem}."))


def check_code(code: Code, target: Target) -> None:
    """Refuse extension modules that the target cannot run, all at once.

    Of several builds of one module, one that runs is enough.

    Raises:
        LayerError: naming every such module.
    """
    # On this machine itself, what runs here runs.
    if target.host_python:
        return
    modules: dict[str, list[LooseFile]] = {}
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
    folder: Path,
    names: Sequence[str],
    session: Session,
    wanted: Sequence[Entry],
    *,
    is_site: bool,
) -> tuple[list[LooseFile], list[Problem]]:
    from pathspec import GitIgnoreSpec

    if not names and not wanted:
        return [], []
    spec, environment = GitIgnoreSpec.from_lines(session.settings.exclude), session.environment
    include = session.settings.include
    links = Links(folder, environment, include, choose_first=is_site)
    files: list[LooseFile] = []
    left: dict[str, list[str]] = {text: [] for text in (*_BRIEF, *_WHOLE)}
    listed = list_files(folder, environment, names) if names else []
    for entry in {entry.path: entry for entry in (*listed, *wanted)}.values():
        for reached in links.follow(entry):
            path = reached.path
            if spec.match_file(path):
                left[_EXCLUDED].append(path)
            elif reached.source is None:
                left[_OUTSIDE if reached.outside else _LOST].append(path)
            elif reason := _judge(reached, include):
                left[reason.value].append(path)
            else:
                files.append(_look_at(path, reached.source))
                if holds_values(path, partial(_read_head, reached.source)):
                    left[_VALUES].append(path)
    ignored = list_ignored(folder, environment, names) if names else []
    taken = {entry.path for entry in wanted}
    taken |= {f"{parent}/" for path in taken for parent in PurePath(path).parents}
    left[_IGNORED] = [path for path in ignored if path not in taken]
    notes = []
    for text, paths in left.items():
        if paths:
            # The program may need any of them, and the user has not said that they stay.
            some = name_some(sorted(paths), most=len(paths) if text in _WHOLE else LISTED)
            notes.append(Problem(subject=os.fspath(folder), message=f"{text} {some}"))
    return sorted(files), notes


def _judge(reached: Reached, include: Sequence[str]) -> Reason | None:
    """Say why a file is not sent, though a link to it may be called otherwise."""
    if reached.source is None or names_exactly(include, reached.path):
        return None
    return find_reason((reached.path, reached.name), partial(_read_head, reached.source))


def _read_head(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(size)
    except OSError:
        # Whoever reads it whole says so.
        return b""


def _look_at(path: str, source: Path) -> LooseFile:
    info = source.stat()
    return LooseFile(path, os.fspath(source), bool(info.st_mode & 0o100), info.st_size)


def _read(file: LooseFile) -> bytes:
    try:
        return Path(file.source).read_bytes()
    except OSError as error:
        raise LayerError(
            f"Failed to read `{file.source}`",
            causes=(error.strerror or str(error),),
            hint="Leave it out with `exclude` in `[tool.envboot]`",
        ) from error


def _refuse_too_much(code: Code, limit: int) -> None:
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for folder in code.folders:
        for file in folder.files:
            # Two levels: enough to find it, few enough to be read.
            part = "/".join([folder.loose.folder, *file.path.split("/")[:2]])
            sizes[part] = sizes.get(part, 0) + file.size
            counts[part] = counts.get(part, 0) + 1
    total, number = sum(sizes.values()), sum(counts.values())
    ways = ["Leave files out with `exclude` in `[tool.envboot]` or in `.gitignore`"]
    if total > limit * 1_000_000:
        # What would show as 0.0 MB is no help.
        large = {part: size for part, size in sizes.items() if size >= 50_000}
        wanted, found = f"{limit} MB", f"{total / 1e6:,.1f} MB"
        causes = [f"`{part}` has {large[part] / 1e6:,.1f} MB" for part in _largest(large)]
        ways.append("raise `loose-limit` there")
    elif number > _FILES:
        wanted, found = f"{_FILES:,} files", f"{number:,}"
        causes = [f"`{part}` has {counts[part]:,} files" for part in _largest(counts)]
    else:
        return
    raise LayerError(
        f"Expected at most {wanted} of code that belongs to no package, found {found}",
        causes=tuple(causes),
        hint=", ".join([*ways, "or bring no loose code with `--no-loose`"]),
    )


def _largest(parts: Mapping[str, int]) -> list[str]:
    return sorted(parts, key=lambda part: (-parts[part], part))[:5]
