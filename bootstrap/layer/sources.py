"""What belongs to a project: its files, the digest of their content, and a clean copy."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

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
    """One file of a project, its path relative to the project's folder."""

    path: str
    executable: bool
    link: str | None


def list_files(folder: Path) -> list[Entry]:
    """List a project's files in the order of their paths.

    In a git checkout: what is tracked, or neither tracked nor ignored. Elsewhere: everything
    but what builds and tools leave behind. Links that stay inside the project are links,
    others count as the files they point to.
    """
    names = _list_by_git(folder)
    if names is None:
        names = _list_by_walk(folder)
    entries = (_entry(folder, name) for name in sorted(set(names)))
    return [entry for entry in entries if entry]


def digest_files(folder: Path, entries: list[Entry]) -> str:
    """Return the sha256 (hex) over paths, execute bits and contents; neither times nor owners."""
    total = hashlib.sha256()
    for entry in entries:
        content = hashlib.sha256()
        if entry.link is None:
            with open(folder / entry.path, "rb") as stream:
                while chunk := stream.read(_CHUNK):
                    content.update(chunk)
        else:
            content.update(os.fsencode(entry.link))
        kind = "l" if entry.link is not None else "x" if entry.executable else "f"
        total.update(os.fsencode(entry.path) + b"\0")
        total.update(f"{kind}{content.hexdigest()}\n".encode())
    return total.hexdigest()


def copy_files(folder: Path, entries: list[Entry], root: Path) -> Path:
    """Copy a project below `root` to build there, and return the copy's folder.

    A build in the user's own folder would leave files there and pick up stale ones. Where the
    project is part of a git checkout, the copy has the same place in it: version tools find the
    repository, and what lies beside and above the project is there as links.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    git_folder = _git(folder, "rev-parse", "--absolute-git-dir")
    relative = Path()
    if top and git_folder and folder.resolve().is_relative_to(top):
        relative = folder.resolve().relative_to(top)
        root.mkdir(parents=True)
        (root / ".git").write_text(f"gitdir: {git_folder}\n")
        _link_surroundings(Path(top), relative, root)
    copy = root / relative
    copy.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        target = copy / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            target.symlink_to(entry.link)
        else:
            shutil.copyfile(folder / entry.path, target)
            target.chmod(0o755 if entry.executable else 0o644)
    return copy


def _link_surroundings(top: Path, relative: Path, root: Path) -> None:
    """Link everything beside the path from `top` to the project into the copy."""
    place = Path()
    for part in relative.parts:
        (root / place).mkdir(parents=True, exist_ok=True)
        for neighbour in (top / place).iterdir():
            if neighbour.name not in (part, ".git"):
                (root / place / neighbour.name).symlink_to(neighbour)
        place /= part


def _entry(folder: Path, name: str) -> Entry | None:
    """Look at one file; None where it is gone (deleted and still tracked) or no file."""
    path = folder / name
    try:
        if path.is_symlink():
            target = path.resolve()
            if target.is_relative_to(folder.resolve()) or not target.is_file():
                return Entry(name, False, os.readlink(path))  # noqa: PTH115
        info = path.stat()
    except (OSError, RuntimeError):
        return None
    if not stat.S_ISREG(info.st_mode):
        return None
    return Entry(name, bool(info.st_mode & 0o100), None)


def _list_by_git(folder: Path) -> list[str] | None:
    """Ask git; None where the folder is in no checkout, or git ignores it as a whole."""
    listing = _git(folder, "ls-files", "-co", "--exclude-standard", "-z")
    names = [name for name in (listing or "").split("\0") if name]
    if not names:
        return None
    found = []
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            # A submodule, or a repository inside this one: git names its folder only.
            found += [f"{name.rstrip('/')}/{inner.path}" for inner in list_files(path)]
        else:
            found.append(name)
    return found


def _list_by_walk(folder: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        relative = os.path.relpath(place, folder)
        start = "" if relative == "." else f"{relative}/"
        links = [name for name in folders if os.path.islink(f"{place}/{name}")]  # noqa: PTH114
        found += [start + name for name in names + links if not name.endswith((".pyc", ".pyo"))]
        folders[:] = [
            name
            for name in folders
            if name not in links
            and name not in _LEFTOVERS
            and not name.endswith((".egg-info", ".dist-info"))
            and not (start == "" and name in _BUILT)
            and not os.path.exists(f"{place}/{name}/pyvenv.cfg")  # noqa: PTH110
        ]
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    """Run git about a folder; None where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", os.fspath(folder), *arguments], capture_output=True, check=False
        )
    except FileNotFoundError:
        return None
    return os.fsdecode(done.stdout).removesuffix("\n") if done.returncode == 0 else None
