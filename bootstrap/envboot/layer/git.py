"""Git projects: the exact commit, fetched with the user's own credentials."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envboot import process
from envboot.errors import LayerError
from envboot.redaction import strip_url
from envboot.repositories import QUIET_OPTIONS

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from envboot.session import Session


def checkout(
    url: str, commit: str, session: Session, folder: Path, *, stop: threading.Event | None = None
) -> None:
    """Check `commit` of a repository out into `folder`, through a mirror kept in the cache.

    git authenticates as it does for the user (ssh agent, credential helpers). It never asks for
    a password itself, since nobody may be there to answer; ssh may, for a key's passphrase. No
    hook runs. Once `stop` is set, the checkout ends.

    Raises:
        LayerError: the repository cannot be reached, or has no such commit.
    """
    from filelock import FileLock

    repository = _Repository(url=url, session=session, stop=stop)
    mirror = session.cache / "git" / hashlib.sha256(strip_url(url).encode()).hexdigest()[:32]
    mirror.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{mirror}.lock"):
        if not mirror.exists():
            repository.run("init", "--quiet", "--bare", os.fspath(mirror))
        if not repository.has_commit(mirror, commit):
            repository.fetch(mirror, commit)
    # Shared objects, and a .git of its own for the tools that derive versions from it.
    copy = ("clone", "--quiet", "--shared", "--no-checkout")
    repository.run(*copy, os.fspath(mirror), os.fspath(folder))
    repository.run("-C", os.fspath(folder), "remote", "set-url", "origin", url)
    repository.run("-C", os.fspath(folder), "checkout", "--quiet", "--detach", commit)
    if (folder / ".gitmodules").exists():
        update = ("submodule", "--quiet", "update", "--init", "--recursive")
        repository.run("-C", os.fspath(folder), *update)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Repository:
    """A repository elsewhere, and how git is run for it."""

    url: str
    session: Session
    stop: threading.Event | None

    def has_commit(self, mirror: Path, commit: str) -> bool:
        """Whether the mirror has a commit already."""
        found = self._run("-C", os.fspath(mirror), "cat-file", "-e", f"{commit}^{{commit}}")
        return found.code == 0

    def fetch(self, mirror: Path, commit: str) -> None:
        """Fetch everything that a branch or tag reaches, and then the commit if need be."""
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        self.run("-C", os.fspath(mirror), "fetch", "--quiet", "--", self.url, *refs)
        if not self.has_commit(mirror, commit):
            # Force-pushed away or in a pull request: most servers still hand it out by its name.
            self.run("-C", os.fspath(mirror), "fetch", "--quiet", "--", self.url, commit)

    def run(self, *arguments: str) -> None:
        """Run git; raises `LayerError` with its last words."""
        done = self._run(*arguments)
        if done.code:
            shown = strip_url(self.url)
            lines = [line.replace(self.url, shown) for line in done.last_errors()]
            raise LayerError(
                f"Failed to fetch `{shown}` with git",
                causes=tuple(lines),
                hint=f"Check that `git ls-remote {shown}` works here without asking for a password",
            )

    def _run(self, *arguments: str) -> process.Completed:
        try:
            running = process.start(
                ["git", *QUIET_OPTIONS, *arguments],
                environment=self.session.environment,
                # The working folder may be somebody else's repository, with settings of its own.
                folder=self.session.cache,
                variables={"GIT_TERMINAL_PROMPT": "0"},
                # ssh may want a passphrase.
                terminal=True,
            )
        except FileNotFoundError as error:
            raise LayerError(
                f"Cannot fetch `{strip_url(self.url)}` without git", hint="Install git"
            ) from error
        return running.finish(stop=self.stop)
