"""Loose code for tests of the layer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from envboot.agent.work import SENT
from envboot.config import Settings
from envboot.layer import build_parts, loose_files, pack_parts
from envboot.lock.target import Target
from envboot.scan.schema import Loose
from tests.layer.projects import HOST, VERSION, Opened, unpack
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.layer import BuiltLayer
    from envboot.scan.schema import Source

ARM = Target(platform="linux-aarch64", glibc="2.28", host_python=False)
# The header of an ELF file up to e_machine.
ELF = b"\x7fELF\2\1\1".ljust(18, b"\0")
X86, AARCH64 = ELF + b"\x3e\0", ELF + b"\xb7\0"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files, and return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def found(folder: Path, *names: str, origin: Any = "current") -> Loose:
    return Loose(folder=str(folder), origin=origin, names=names)


def build(
    *given: Loose,
    cache: Path,
    sources: tuple[Source, ...] = (),
    target: Target = HOST,
    **settings: Any,
) -> BuiltLayer | None:
    parts = build_parts(
        sources,
        make_session(cache=cache, settings=Settings(**settings)),
        python=sys.executable,
        version=VERSION,
        target=target,
        loose=given,
    )
    return pack_parts(parts)


def bring(*given: Loose, cache: Path, to: Path, **options: Any) -> Opened:
    layer = build(*given, cache=cache, **options)
    assert layer is not None
    return unpack(layer, to)


def shipped(opened: Opened) -> set[str]:
    """Every loose file: of the launch directory by its path there, others below their folder."""
    starts = (f"{loose_files.PATH}/", f"{SENT}/")
    return {
        path.removeprefix(start)
        for path in opened.paths
        for start in starts
        if path.startswith(start)
    }
