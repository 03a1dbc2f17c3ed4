"""Git projects: the exact commit, fetched with the user's own credentials."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

from envboot.errors import LayerError
from envboot.redaction import strip_url

if TYPE_CHECKING:
    from pathlib import Path


def checkout(url: str, commit: str, cache: Path, folder: Path) -> None:
    """Check `commit` of a repository out into `folder`, through a mirror kept in `cache`.

    git authenticates as it does for the user (ssh agent, credential helpers) but never asks:
    nobody may be there to answer.

    Raises:
        LayerError: the repository cannot be reached, or has no such commit.
    """
    from filelock import FileLock

    mirror = cache / "git" / hashlib.sha256(strip_url(url).encode()).hexdigest()[:32]
    mirror.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{mirror}.lock"):
        if not mirror.exists():
            _git("init", "--quiet", "--bare", os.fspath(mirror), url=url)
        if not _has_commit(mirror, commit):
            _fetch(mirror, url, commit)
    # Shared objects, and a .git of its own for the tools that derive versions from it.
    _git("clone", "-q", "--shared", "--no-checkout", os.fspath(mirror), os.fspath(folder), url=url)
    _git("-C", os.fspath(folder), "remote", "set-url", "origin", url, url=url)
    _git("-C", os.fspath(folder), "checkout", "--quiet", "--detach", commit, url=url)
    if (folder / ".gitmodules").exists():
        update = ("submodule", "--quiet", "update", "--init", "--recursive")
        _git("-C", os.fspath(folder), *update, url=url)


def _has_commit(mirror: Path, commit: str) -> bool:
    command = ["git", "-C", os.fspath(mirror), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fetch(mirror: Path, url: str, commit: str) -> None:
    """Fetch everything that a branch or tag reaches, and then the commit itself if need be."""
    refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    _git("-C", os.fspath(mirror), "fetch", "--quiet", "--", url, *refs, url=url)
    if not _has_commit(mirror, commit):
        # Force-pushed away or in a pull request: most servers still hand it out by its name.
        _git("-C", os.fspath(mirror), "fetch", "--quiet", "--", url, commit, url=url)


def _git(*arguments: str, url: str) -> None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except FileNotFoundError as error:
        raise LayerError(
            f"Cannot fetch `{strip_url(url)}` without git", hint="Install git"
        ) from error
    if done.returncode:
        shown = strip_url(url)
        lines = [line.replace(url, shown) for line in done.stderr.strip().splitlines()]
        raise LayerError(
            f"Failed to fetch `{shown}` with git",
            causes=tuple(lines[-5:]),
            hint=f"Check that `git ls-remote {shown}` works here without asking for a password",
        )
