"""What a repository's own configuration names is never run by a look at it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from envboot.errors import LayerError
from envboot.layer.git import checkout
from envboot.layer.project_files import (
    copy_files,
    find_ignored,
    list_files,
    list_ignored,
)
from envboot.repositories import read_with_git
from envboot.scan import scan
from envboot.scan.loose import PathEntry, find_loose
from tests.layer.code import build, found, write
from tests.layer.projects import commit_all, git, write_project
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.subprocess


class Trap:
    """A repository, and a program of its own that leaves a mark when it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = write(folder, {"app/__init__.py": "x = 1\n", ".gitignore": "*.log\n"})
        write(folder, {"app/a.log": "", ".gitattributes": "* filter=evil diff=evil\n"})
        self.mark = folder.parent / "ran"
        self.program = folder.parent / "program"
        self.program.write_text(f'#!/bin/sh\necho "$0 $*" >> "{self.mark}"\nexit 1\n')
        self.program.chmod(0o755)
        commit_all(folder)

    def configure(self, *settings: tuple[str, str]) -> None:
        for name, value in settings:
            git(self.folder, "config", name, value)

    def has_run(self) -> bool:
        ran = self.mark.exists()
        self.mark.unlink(missing_ok=True)
        return ran

    def springs(self, *arguments: str) -> bool:
        """Whether the program runs when git is called as anybody would."""
        command = ["git", "-C", str(self.folder), *arguments]
        subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        return self.has_run()


def monitor(trap: Trap) -> tuple[str, ...]:
    trap.configure(("core.fsmonitor", str(trap.program)))
    return ("ls-files", "-o")


def monitor_of_an_included_file(trap: Trap) -> tuple[str, ...]:
    write(trap.folder, {".git/more": f"[core]\n\tfsmonitor = {trap.program}\n"})
    trap.configure(("include.path", "more"))
    return ("ls-files", "-o")


def monitor_of_the_worktree(trap: Trap) -> tuple[str, ...]:
    trap.configure(("extensions.worktreeConfig", "true"))
    write(trap.folder, {".git/config.worktree": f"[core]\n\tfsmonitor = {trap.program}\n"})
    return ("ls-files", "-o")


def monitor_behind_a_git_file(trap: Trap) -> tuple[str, ...]:
    trap.configure(("core.fsmonitor", str(trap.program)))
    (trap.folder / ".git").rename(trap.folder / "dot")
    (trap.folder / ".git").write_text("gitdir: dot\n")
    return ("ls-files", "-o")


def monitor_of_a_submodule(trap: Trap) -> tuple[str, ...]:
    write(trap.folder / "app/inner", {"b.py": ""})
    commit_all(trap.folder / "app/inner")
    git(trap.folder / "app/inner", "config", "core.fsmonitor", str(trap.program))
    git(trap.folder, "add", "app/inner")
    return ("-C", "app/inner", "ls-files", "-o")


def hooks(trap: Trap) -> tuple[str, ...]:
    folder = trap.folder / ".hooks"
    folder.mkdir()
    for name in ("post-index-change", "post-checkout", "reference-transaction", "fsmonitor"):
        (folder / name).symlink_to(trap.program)
    trap.configure(("core.hooksPath", str(folder)))
    os.utime(trap.folder / "app/__init__.py", (1, 1))
    return ("status",)


def clean_filter(trap: Trap) -> tuple[str, ...]:
    trap.configure(("filter.evil.clean", str(trap.program)))
    (trap.folder / "app/__init__.py").write_text("x = 2\n")
    return ("status",)


def filter_process(trap: Trap) -> tuple[str, ...]:
    trap.configure(("filter.evil.process", str(trap.program)), ("filter.evil.required", "true"))
    (trap.folder / "app/__init__.py").write_text("x = 2\n")
    return ("status",)


def external_diff(trap: Trap) -> tuple[str, ...]:
    trap.configure(("diff.external", str(trap.program)))
    (trap.folder / "app/__init__.py").write_text("x = 2\n")
    return ("diff",)


def text_conversion(trap: Trap) -> tuple[str, ...]:
    trap.configure(("diff.evil.textconv", str(trap.program)))
    (trap.folder / "app/__init__.py").write_text("x = 2\n")
    return ("diff",)


def make_partial(trap: Trap, *settings: tuple[str, str]) -> tuple[str, ...]:
    """Take away an object that a look at the ignored files reads: git fetches it."""
    name = git(trap.folder, "rev-parse", ":.gitignore")
    git(trap.folder, "update-index", "--skip-worktree", ".gitignore")
    (trap.folder / ".gitignore").unlink()
    (trap.folder / ".git/objects" / name[:2] / name[2:]).unlink()
    trap.configure(
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        *settings,
    )
    return ("ls-files", "-o", "--exclude-standard")


def missing_objects_by_ssh(trap: Trap) -> tuple[str, ...]:
    command = ("core.sshCommand", str(trap.program))
    return make_partial(trap, command, ("remote.origin.url", "ssh://host/x"))


def missing_objects_by_upload_pack(trap: Trap) -> tuple[str, ...]:
    pack = ("remote.origin.uploadpack", str(trap.program))
    return make_partial(trap, pack, ("remote.origin.url", str(trap.folder.parent)))


def missing_objects_by_a_helper(trap: Trap) -> tuple[str, ...]:
    url = ("remote.origin.url", f"ext::{trap.program}")
    return make_partial(trap, url, ("protocol.ext.allow", "always"))


def missing_objects_by_a_proxy(trap: Trap) -> tuple[str, ...]:
    proxy = ("core.gitProxy", str(trap.program))
    return make_partial(trap, proxy, ("remote.origin.url", "git://host/x"))


TRAPS = [
    monitor,
    monitor_of_an_included_file,
    monitor_of_the_worktree,
    monitor_behind_a_git_file,
    monitor_of_a_submodule,
    hooks,
    clean_filter,
    filter_process,
    external_diff,
    text_conversion,
    missing_objects_by_ssh,
    missing_objects_by_upload_pack,
    missing_objects_by_a_helper,
    missing_objects_by_a_proxy,
]


@pytest.mark.parametrize("hide", [False, True], ids=["modern", "old"])
@pytest.mark.parametrize("lay", TRAPS, ids=lambda lay: lay.__name__)
def test_a_look_at_a_repository_runs_nothing_of_it(
    tmp_path: Path,
    lay: Callable[[Trap], tuple[str, ...]],
    hide: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trap = Trap(tmp_path / "work")
    spring = lay(trap)
    assert trap.springs(*spring), "the trap is set"
    if hide:
        # As for a git that does not know the variable: the protocols alone stop it.
        monkeypatch.setattr("envboot.repositories._READING_VARIABLES", {"GIT_ALLOW_PROTOCOL": "x"})
    environment, folder = dict(os.environ), trap.folder
    files = list_files(folder, environment)
    assert "app/__init__.py" in {file.path for file in files}
    list_files(folder, environment, ["app"])
    list_ignored(folder, environment, ["app"])
    find_ignored(folder, environment, ["app"])
    copy_files(folder, files, tmp_path / "copy", environment)
    here = scan(sys.executable, environment=environment, folder=folder, loose=True)
    find_loose(here, [PathEntry(folder=folder, origin="current")], {}, environment=environment)
    build(found(folder, "app"), cache=tmp_path / "cache")
    assert not trap.has_run()


def test_ignored_files_are_still_found(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "work")
    monitor(trap)
    environment = dict(os.environ)
    assert list_ignored(trap.folder, environment, ["app"]) == ["app/a.log"]
    assert find_ignored(trap.folder / "app", environment, ["a.log", "b"]) == {"a.log"}


def test_the_users_own_ignored_files_count(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "work")
    write(tmp_path / "home", {".gitconfig": "[core]\n\texcludesFile = ~/mine\n", "mine": "*.tmp\n"})
    write(trap.folder, {"app/b.tmp": ""})
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    environment.pop("GIT_CONFIG_GLOBAL", None)
    assert "app/b.tmp" not in {file.path for file in list_files(trap.folder, environment)}


def test_a_directory_that_looks_like_a_bare_repository_runs_nothing(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "work")
    inner = write(trap.folder / "app" / "bare", {"HEAD": "ref: refs/heads/main\n", "b.py": ""})
    write(inner, {"objects/x": "", "refs/x": "", "config": f"[core]\n\tfsmonitor={trap.program}\n"})
    write(inner, {"config": f"[core]\n\tbare=true\n\tworktree=..\n\tfsmonitor={trap.program}\n"})
    build(found(inner, "b.py", origin="pth"), cache=tmp_path / "cache")
    assert not trap.has_run()


@pytest.mark.parametrize("command", ["status", "diff", "rev-parse"])
def test_commands_that_may_run_filters_cannot_be_asked(tmp_path: Path, command: str) -> None:
    with pytest.raises(AssertionError):
        read_with_git(tmp_path, {}, command)


def test_a_checkout_runs_no_hook_and_nothing_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = Trap(tmp_path / "work")
    monitor(trap)
    hooks(trap)
    write_project(tmp_path / "upstream")
    commit = commit_all(tmp_path / "upstream")
    template = tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (template / "hooks" / name).symlink_to(trap.program)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template))
    assert trap.springs("clone", "--quiet", str(tmp_path / "upstream"), str(tmp_path / "c"))
    session = make_session(folder=trap.folder, cache=tmp_path / "cache")
    checkout((tmp_path / "upstream").as_uri(), commit, session, tmp_path / "out")
    assert (tmp_path / "out" / "pyproject.toml").exists()
    assert not trap.has_run()


def test_an_address_that_names_a_program_is_refused(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "work")
    session = make_session(folder=trap.folder, cache=tmp_path / "cache")
    for url in (f"ext::{trap.program} x", f"--upload-pack={trap.program}"):
        with pytest.raises(LayerError, match="with git"):
            checkout(url, "0" * 40, session, tmp_path / "out")
    assert not trap.has_run()
