"""What uv reads for us: `uv.lock`, and requirements as exact files."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from envboot import process
from envboot.documents import find_table
from envboot.errors import LISTED, LockError
from envboot.indexes import open_indexes
from envboot.indexes.fingerprint import describe_indexes
from envboot.indexes.program import find_uv
from envboot.lock.cache import keep_for_a_day
from envboot.lock.tags import name_platform
from envboot.lockfiles.content import Content, Request, refuse, refuse_names
from envboot.lockfiles.pylock import parse_toml, read_pylock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.lock import Target
    from envboot.session import Session

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
    done = process.run(
        [find_uv(), "export", "--frozen", "--format", "pylock.toml", *options, *_QUIET],
        environment=request.session.environment,
        folder=request.file.parent,
    )
    text = _check(done, request.file)
    return read_pylock(replace(request, text=text, names=()))


def _find_names(request: Request) -> tuple[list[str], list[str]]:
    """Return the extras and groups of the project beside the lock."""
    project = request.file.with_name("pyproject.toml")
    document = parse_toml(replace(request, file=project), project.read_text("utf-8"))
    groups = [*find_table(document, "dependency-groups")]
    groups += ["dev"] if "dev-dependencies" in find_table(document, "tool", "uv") else []
    return [*find_table(document, "project", "optional-dependencies")], groups


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """Lines of requirements, read as if they stood in `file`.

    Packages of `constraints` may come in that version only. With `alone` nothing that they need
    is looked up.
    """

    lines: Sequence[str]
    file: Path
    constraints: Sequence[str] = ()
    alone: bool = False


def compile_kept(
    wanted: Requirements,
    session: Session,
    *,
    target: Target,
    version: str,
    prefix: Path,
    fresh: bool = False,
) -> str:
    """Let uv find the files of requirements for the target, once a day; returns PEP 751.

    The indexes are those of uv's and pip's settings; the environment in `prefix` may have some
    of its own.

    Raises:
        LockError: uv failed; its words are the causes, URLs without credentials.
    """
    command = ["pip", "compile", "--format", "pylock.toml", "--no-header"]
    command += ["--no-deps"] if wanted.alone else []
    # Any interpreter will do: what counts is the version and the platform.
    command += ["--python", sys.executable, "--python-version", version]
    command += ["--python-platform", name_platform(target.platform, target.glibc)]
    command += ["--directory", str(wanted.file.parent)]
    question = {
        "command": command,
        "requirements": list(wanted.lines),
        "constraints": list(wanted.constraints),
        "indexes": describe_indexes(session.environment, session.folder, Path(sys.prefix)),
    }

    def look_up() -> str:
        indexes = open_indexes(
            session.environment, session.folder, prefix=prefix, pip=True, probe="pip"
        )
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as stream:
            stream.write("\n".join(wanted.constraints))
            stream.flush()
            more = ["--constraints", stream.name, *_QUIET]
            done = indexes.run_uv([find_uv(), *command, *more], wanted.lines)
        return _check(done, wanted.file)

    found: str = keep_for_a_day(session.cache / "requirements", question, look_up, fresh=fresh)
    return found


def _check(done: process.Completed, file: Path) -> str:
    """Return what uv printed, or raise what it complained of."""
    if done.code:
        lines = [line.strip() for line in done.errors.splitlines() if line.strip()]
        raise LockError(
            f"uv failed to look up the packages of `{file}`",
            causes=tuple(
                line.removeprefix("error: ").removeprefix("cause: ") for line in lines[:LISTED]
            ),
        )
    return done.stdout.decode("utf-8")
