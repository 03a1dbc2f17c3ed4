"""What uv reads for us: `uv.lock`, and requirements as exact files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot.errors import LISTED, LockError
from envboot.indexes import open_indexes
from envboot.indexes.program import find_uv
from envboot.lock.cache import keep_for_a_day
from envboot.lock.indexes import describe_indexes
from envboot.lock.tags import name_platform
from envboot.lockfiles.content import Content, Request, refuse, refuse_names
from envboot.lockfiles.pylock import parse_toml, read_pylock
from envboot.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.lock import Target

_QUIET = ("--quiet", "--color", "never")


def read_uv_lock(request: Request) -> Content:
    """Read the project's default groups, and the groups and extras that are named.

    uv itself turns its lock into PEP 751, without a look at the network; for that it needs
    the `pyproject.toml` beside it.
    """
    parse_toml(request, request.text)
    project = request.file.with_name("pyproject.toml")
    if request.file.name != "uv.lock" or not project.is_file():
        refuse(
            request,
            f"Expected `uv.lock` beside its project, found no `{project}`"
            if request.file.name == "uv.lock"
            else f"Expected the name `uv.lock`, found `{request.file.name}`",
            hint="Keep it in the project, or export it there with "
            "`uv export --format pylock.toml -o pylock.toml`",
        )
    extras, groups = _find_names(request)
    unknown = [name for name in request.names if name not in (*extras, *groups)]
    if unknown:
        refuse_names(request, unknown, [*extras, *groups])
    options = [f"--group={name}" for name in request.names if name in groups]
    options += [f"--extra={name}" for name in request.names if name in extras]
    done = subprocess.run(
        [find_uv(), "export", "--frozen", "--format", "pylock.toml", *options, *_QUIET],
        cwd=request.file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    text = _check(done, request.file)
    return read_pylock(replace(request, text=text, names=()))


def _find_names(request: Request) -> tuple[list[str], list[str]]:
    """Return the extras and groups of the project beside the lock."""
    project = request.file.with_name("pyproject.toml")
    document = parse_toml(replace(request, file=project), project.read_text("utf-8"))
    tool = _table(document, "tool")
    groups = [*_table(document, "dependency-groups")]
    groups += ["dev"] if "dev-dependencies" in _table(tool, "uv") else []
    return [*_table(_table(document, "project"), "optional-dependencies")], groups


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def compile_kept(
    requirements: Sequence[str],
    *,
    file: Path,
    target: Target,
    version: str,
    prefix: Path,
    cache: Path,
    fresh: bool = False,
    options: Sequence[str] = (),
    constraints: Sequence[str] = (),
) -> str:
    """Let uv find the files of requirements for the target, once a day; returns PEP 751.

    They are read as if they stood in the folder of `file`. Packages of `constraints` may come
    in that version only. The indexes are those of uv's and pip's settings; the environment in
    `prefix` may have some of its own.

    Raises:
        LockError: uv failed; its words are the causes, URLs without credentials.
    """
    command = ["pip", "compile", "--format", "pylock.toml", "--no-header", *options]
    # Any interpreter will do: what counts is the version and the platform.
    command += ["--python", sys.executable, "--python-version", version]
    command += ["--python-platform", name_platform(target.platform, target.glibc)]
    command += ["--directory", str(file.parent)]
    question = {
        "command": command,
        "requirements": list(requirements),
        "constraints": list(constraints),
        "indexes": describe_indexes(os.environ, Path.cwd(), Path(sys.prefix)),
    }

    def look_up() -> str:
        indexes = open_indexes(os.environ, Path.cwd(), prefix=prefix, pip=True, probe="pip")
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as stream:
            stream.write("\n".join(constraints))
            stream.flush()
            more = ["--constraints", stream.name, *_QUIET]
            return _check(indexes.run_uv([find_uv(), *command, *more], requirements), file)

    found: str = keep_for_a_day(cache / "requirements", question, look_up, fresh=fresh)
    return found


def _check(done: subprocess.CompletedProcess[str], file: Path) -> str:
    """Return what uv printed, or raise what it complained of."""
    if done.returncode:
        lines = [redact(line.strip()) for line in done.stderr.splitlines() if line.strip()]
        raise LockError(
            f"uv failed to look up the packages of `{file}`",
            causes=tuple(
                line.removeprefix("error: ").removeprefix("cause: ") for line in lines[:LISTED]
            ),
        )
    return done.stdout
