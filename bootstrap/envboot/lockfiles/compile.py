"""Requirements as exact files, found by uv's `pip compile` for one target."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.errors import LISTED, LockError
from envboot.indexes import open_indexes
from envboot.indexes.configuration import Configuration
from envboot.indexes.fingerprint import describe_indexes
from envboot.indexes.program import find_uv
from envboot.lock.cache import keep_for_a_day
from envboot.lock.tags import name_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.lock.target import Target
    from envboot.process import Completed
    from envboot.session import Session

QUIET = ("--quiet", "--color", "never")


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """Lines of requirements, read as if they stood in `file`.

    Packages of `constraints` may come in that version only. With `alone` nothing that they need
    is looked up. `configuration` has the indexes that the file names, `options` what uv is told
    beside.
    """

    lines: Sequence[str]
    file: Path
    constraints: Sequence[str] = ()
    alone: bool = False
    configuration: Configuration = field(default_factory=Configuration)
    options: Sequence[str] = ()


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
    command += [*(["--no-deps"] if wanted.alone else []), *wanted.options]
    # Any interpreter will do: what counts is the version and the platform.
    command += ["--python", sys.executable, "--python-version", version]
    command += ["--python-platform", name_platform(target.platform, target.glibc)]
    command += ["--directory", str(wanted.file.parent)]
    question = {
        "command": command,
        "requirements": list(wanted.lines),
        "constraints": list(wanted.constraints),
        "indexes": describe_indexes(session.environment, session.folder, Path(sys.prefix)),
        "given": asdict(wanted.configuration),
    }

    def look_up() -> str:
        indexes = open_indexes(
            session.environment,
            session.folder,
            prefix=prefix,
            pip=True,
            probe="pip",
            given=wanted.configuration,
        )
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as stream:
            stream.write("\n".join(wanted.constraints))
            stream.flush()
            more = ["--constraints", stream.name, *QUIET]
            done = indexes.run_uv([find_uv(), *command, *more], wanted.lines)
        return read_output(done, wanted.file)

    found: str = keep_for_a_day(session.cache / "requirements", question, look_up, fresh=fresh)
    return found


def read_output(done: Completed, file: Path) -> str:
    """Return what uv printed; raises `LockError` with what it complained of."""
    if done.code:
        lines = [line.strip() for line in done.errors.splitlines() if line.strip()]
        raise LockError(
            f"uv failed to look up the packages of `{file}`",
            causes=tuple(
                line.removeprefix("error: ").removeprefix("cause: ") for line in lines[:LISTED]
            ),
        )
    return done.stdout.decode("utf-8")
