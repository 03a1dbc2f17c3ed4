"""What belongs to a project: its files, the digest of their content, and a clean copy."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from envboot.repositories import find_git_folder, find_top, read_with_git

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pathspec import GitIgnoreSpec

# What tools leave behind; only where git does not say what is ignored.
_LEFTOVERS = frozenset(
    {
        ".git", ".hg", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".tox", ".venv",
        "__pycache__", "node_modules",
    }
)  # fmt: skip
_BUILT = frozenset({"build", "dist"})
_CHUNK = 1 << 20


class Entry(NamedTuple):
    """One file of a project, its path relative to the project's folder.

    Of a link, `link` is what it says. `source` is where the content is, if not at `path`.
    """

    path: str
    executable: bool = False
    link: str | None = None
    source: str | None = None


def list_files(
    folder: Path, environment: Mapping[str, str], names: Sequence[str] | None = None
) -> list[Entry]:
    """List a project's files in the order of their paths; only what is at or below `names`.

    In a git checkout: what is tracked, or neither tracked nor ignored. Elsewhere: everything
    but what `.gitignore` names, and what builds and tools leave behind. Links are not followed.
    """
    found = _list_by_git(folder, environment, names)
    if found is None:
        found, _ = _list_by_walk(folder, names)
    return _look_at(folder, found)


def list_ignored(folder: Path, environment: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return what `.gitignore` keeps out of `list_files`, a whole folder as one with a slash."""
    hidden = None
    if _is_checkout(folder, environment):
        hidden = _list_with_git(folder, environment, names, "-o", "-i", "--directory")
    if hidden is None:
        _, hidden = _list_by_walk(folder, names)
    return sorted(path for path in hidden if not is_leftover(path))


def find_ignored(folder: Path, environment: Mapping[str, str], names: Sequence[str]) -> set[str]:
    """Return which names of a folder `.gitignore` hides as a whole."""
    if _is_checkout(folder, environment):
        # 1 says that none is.
        listed = os.fsencode("\0".join(names))
        code, output = read_with_git(
            folder, environment, "check-ignore", "-z", "--stdin", input=listed
        )
        if code in (0, 1):
            return set(output.split("\0")) - {""}
    ignore = Ignore(folder)
    return {name for name in names if ignore.hides(name + "/" * _is_folder(folder / name))}


def list_matching(folder: Path, patterns: Sequence[str]) -> list[Entry]:
    """List the files that patterns as in `.gitignore` match, whatever git thinks of them."""
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(patterns)
    found = []
    for place, folders, files in os.walk(folder):
        relative = os.path.relpath(place, folder)
        at = "" if relative == "." else f"{relative}/"
        links = [name for name in folders if os.path.islink(f"{place}/{name}")]  # noqa: PTH114
        found += [at + name for name in files if spec.match_file(at + name)]
        found += [at + name for name in links if spec.match_file(f"{at}{name}/")]
        folders[:] = [
            name
            for name in folders
            if name not in links
            and not is_leftover(name)
            and not os.path.exists(f"{place}/{name}/pyvenv.cfg")  # noqa: PTH110
        ]
    return _look_at(folder, [name for name in found if not _is_byte_code(name)])


def digest_files(folder: Path, entries: list[Entry]) -> str:
    """Return the sha256 (hex) over paths, execute bits and contents; neither times nor owners."""
    total = hashlib.sha256()
    for entry in entries:
        content = hashlib.sha256()
        if entry.link is None:
            with open(entry.source or folder / entry.path, "rb") as stream:
                while chunk := stream.read(_CHUNK):
                    content.update(chunk)
        else:
            content.update(os.fsencode(entry.link))
        kind = "l" if entry.link is not None else "x" if entry.executable else "f"
        total.update(os.fsencode(entry.path) + b"\0")
        total.update(f"{kind}{content.hexdigest()}\n".encode())
    return total.hexdigest()


def copy_files(
    folder: Path, entries: list[Entry], root: Path, environment: Mapping[str, str]
) -> Path:
    """Copy a project below `root` to build there, and return the copy's folder.

    A build in the user's own folder would leave files there and pick up stale ones. Where the
    project is part of a git checkout, the copy has the same place in it: version tools find the
    repository, and what lies beside and above the project is there as links.
    """
    top = find_top(folder.resolve(), environment)
    relative = Path()
    if top:
        relative = folder.resolve().relative_to(top)
        root.mkdir(parents=True)
        (root / ".git").write_text(f"gitdir: {find_git_folder(top)}\n")
        _link_surroundings(top, relative, root)
    copy = root / relative
    copy.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        target = copy / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            target.symlink_to(entry.link)
        else:
            shutil.copyfile(entry.source or folder / entry.path, target)
            target.chmod(0o755 if entry.executable else 0o644)
    return copy


def _link_surroundings(top: Path, relative: Path, root: Path) -> None:
    """Link what lies beside the path from `top` to the project into the copy, and stays in it."""
    place = Path()
    for part in relative.parts:
        (root / place).mkdir(parents=True, exist_ok=True)
        for neighbour in (top / place).iterdir():
            # Until Python 3.13 `resolve` refuses a link that leads to itself.
            real = Path(os.path.realpath(neighbour))
            is_inside = not neighbour.is_symlink() or real.is_relative_to(top)
            if neighbour.name not in (part, ".git") and is_inside:
                (root / place / neighbour.name).symlink_to(neighbour)
        place /= part


def _look_at(folder: Path, names: Sequence[str]) -> list[Entry]:
    """Look at files, in the order of their paths; those that are gone or no files are left out.

    git still lists what it tracks below a directory that has become a link: that is reached by
    the link, or not at all.
    """
    real = folder.resolve()
    plain: dict[Path, bool] = {}
    entries = []
    for name in sorted(set(names)):
        path = folder / name
        parent = path.parent
        if parent not in plain:
            plain[parent] = parent.resolve() == real / parent.relative_to(folder)
        try:
            if not plain[parent]:
                continue
            if path.is_symlink():
                entries.append(Entry(name, link=os.readlink(path)))  # noqa: PTH115
                continue
            info = path.stat()
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode):
            entries.append(Entry(name, executable=bool(info.st_mode & 0o100)))
    return entries


def _list_by_git(
    folder: Path, environment: Mapping[str, str], names: Sequence[str] | None
) -> list[str] | None:
    """Ask git; None where the folder is in no checkout, or git ignores it as a whole."""
    if names is not None and not _is_checkout(folder, environment):
        return None
    listed = _list_with_git(folder, environment, names or (), "-c", "-o")
    if not listed and names is None:
        return None
    found = []
    for name in listed or ():
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            # A submodule, or a repository inside this one: git names its folder only.
            inner = list_files(path, environment)
            found += [f"{name.rstrip('/')}/{entry.path}" for entry in inner]
        elif not _is_byte_code(name):
            found.append(name)
    return found


def _is_checkout(folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether git knows about files here: 1 says that the folder is not ignored as a whole."""
    return read_with_git(folder, environment, "check-ignore", "-q", ".")[0] == 1


def _list_with_git(
    folder: Path, environment: Mapping[str, str], names: Sequence[str], *options: str
) -> list[str] | None:
    words = ("ls-files", *options, "--exclude-standard", "-z", "--", *names)
    code, listing = read_with_git(folder, environment, *words)
    return [name for name in listing.split("\0") if name] if code == 0 else None


def _list_by_walk(folder: Path, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return what is here, and what `.gitignore` hides."""
    found: list[str] = []
    ignore = Ignore(folder)
    if names is None:
        starts = [""]
    else:
        shown = [name for name in names if not ignore.hides(name)]
        starts = [name + "/" for name in shown if _is_folder(folder / name)]
        found += [name for name in shown if not _is_folder(folder / name)]
    for start in starts:
        for place, folders, files in os.walk(folder / start):
            relative = os.path.relpath(place, folder)
            at = "" if relative == "." else f"{relative}/"
            links = [name for name in folders if os.path.islink(f"{place}/{name}")]  # noqa: PTH114
            found += [
                at + name
                for name in files + links
                if not _is_byte_code(name) and not ignore.hides(at + name)
            ]
            folders[:] = [
                name
                for name in folders
                if name not in links
                and not is_leftover(name)
                and not (at == "" and name in _BUILT)
                and not os.path.exists(f"{place}/{name}/pyvenv.cfg")  # noqa: PTH110
                and not ignore.hides(at + name + "/")
            ]
    return found, ignore.hidden


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_byte_code(path: str) -> bool:
    return path.endswith((".pyc", ".pyo"))


def is_leftover(path: str) -> bool:
    """Whether builds and tools made a file or folder, and nobody would miss it."""
    name = path.rstrip("/").rpartition("/")[2]
    return name in _LEFTOVERS or name.endswith((".egg-info", ".dist-info")) or _is_byte_code(name)


class Ignore:
    """The `.gitignore` files of a folder and below, for where git cannot be asked."""

    def __init__(self, folder: Path) -> None:
        self.hidden: list[str] = []
        self._folder = folder
        self._specs: dict[str, GitIgnoreSpec | None] = {}

    def hides(self, path: str) -> bool:
        """Whether a path below the folder is ignored; a folder's ends in a slash."""
        parts = path.rstrip("/").split("/")
        for length in range(1, len(parts)):
            if self._judge("/".join(parts[:length]) + "/"):
                return True
        is_hidden = self._judge(path)
        if is_hidden:
            self.hidden.append(path)
        return is_hidden

    def _judge(self, path: str) -> bool:
        place, _, _ = path.rstrip("/").rpartition("/")
        while True:
            spec = self._find_spec(place)
            # The nearest file that has an opinion decides (gitignore(5)).
            verdict = spec.check_file(path[len(place) :].lstrip("/")).include if spec else None
            if verdict is not None or not place:
                return bool(verdict)
            place = place.rpartition("/")[0]

    def _find_spec(self, place: str) -> GitIgnoreSpec | None:
        if place not in self._specs:
            self._specs[place] = None
            file = self._folder / place / ".gitignore"
            if file.is_file():
                from pathspec import GitIgnoreSpec

                lines = file.read_text("utf-8", errors="surrogateescape").splitlines()
                # git takes no notice of these two, and pathspec refuses them.
                valid = [line for line in lines if line != "!" and not line.endswith("\\")]
                self._specs[place] = GitIgnoreSpec.from_lines(valid)
        return self._specs[place]
