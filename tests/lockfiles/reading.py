"""Reading lock files in tests: the recorded ones of `data`, and made-up ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.lock.target import Target
from envboot.lockfiles import read_lock_file
from envboot.lockfiles.content import LockFileRequest
from tests.lock.documents import make_scan
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot.lock import Locked
    from envboot.scan.schema import Interpreter

DATA = Path(__file__).parent / "data"
SHA = "a" * 64


def make_target(platform: str = "linux-64", *, host_python: bool = True) -> Target:
    """What tests lock for."""
    return Target(platform=platform, glibc="2.28", host_python=host_python)


def make_interpreter(version: str = "3.11.7", implementation: str = "CPython") -> Interpreter:
    """The active interpreter: the running one, called of another version."""
    found = make_scan().interpreter
    return replace(found, version=version, implementation=implementation)


def make_request(*, host_python: bool = True, implementation: str = "CPython") -> LockFileRequest:
    """A request about a file that is not there."""
    return LockFileRequest(
        file=Path("/nowhere/pylock.toml"),
        text="",
        interpreter=make_interpreter(implementation=implementation),
        target=make_target(host_python=host_python),
        session=make_session(cache=Path("/nowhere")),
    )


def read(
    file: Path | str,
    *,
    version: str = "3.11.7",
    platform: str = "linux-64",
    cache: Path = Path("/nowhere"),
) -> Locked:
    """Read a lock file; a name without folder is one of `data`."""
    return read_lock_file(
        DATA / file,
        make_session(cache=cache),
        interpreter=make_interpreter(version),
        target=make_target(platform),
    )


def pins(locked: Locked) -> list[str]:
    """The wheels as `name==version`."""
    return [f"{wheel.name}=={wheel.version}" for wheel in locked.base.wheels]


def conda_files(locked: Locked) -> list[str]:
    """The file names of conda packages."""
    return [package.url.rpartition("/")[2] for package in locked.base.conda]


def names(locked: Locked) -> list[str]:
    """What is built here, and goes into the layer."""
    return [source.name for source in locked.sources]
