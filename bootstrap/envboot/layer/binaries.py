"""Native code in wheels and loose code: what it was compiled for, and what it asks for."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from envboot.platforms import ELF_MACHINES, MACHINES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from envboot.lock.target import Target

_MAGIC = b"\x7fELF"
_NATIVE = re.compile(r"\.(?:so(?:\.\d+)*|pyd|dylib)$")
_GLIBC = re.compile(rb"GLIBC_2\.(\d+)")
# As Alpine's compiler names the loader, and as musl names its library.
_MUSL = re.compile(rb"ld-musl-|libc\.musl-")


# PEP 599's list, which later manylinux policies only add to.
_EVERYWHERE = re.compile(
    r"(lib(c|m|dl|rt|util|nsl|pthread|resolv|mvec|anl|gcc_s|stdc\+\+|z|expat|atomic"
    r"|X11|Xext|Xrender|ICE|SM|GL|gobject-2\.0|gthread-2\.0|glib-2\.0|python3[\d.]*)"
    r"|ld-linux[-\w]*)\.so(\.[\d.]+)?"
)


class Binary(NamedTuple):
    """One native file: `machine` is None where it is no ELF; `glibc` is the newest 2.N it names."""

    path: str
    machine: int | None
    glibc: int
    musl: bool
    needed: tuple[str, ...]


class Misfit(NamedTuple):
    """Why the target cannot run something; `glibc` is set where only that is too old."""

    message: str
    glibc: int = 0


def is_native(path: str) -> bool:
    """Whether a file's name says that it is native code."""
    return bool(_NATIVE.search(path))


def read_binary(path: str, data: bytes) -> Binary | None:
    """Look at a file; None where it is no native code."""
    if data.startswith(_MAGIC):
        # EI_DATA: 2 is big endian.
        order: Literal["big", "little"] = "big" if data[5:6] == b"\x02" else "little"
        return Binary(
            path=path,
            machine=int.from_bytes(data[18:20], order),
            glibc=max((int(found) for found in _GLIBC.findall(data)), default=0),
            musl=bool(_MUSL.search(data)),
            needed=_read_needed(data),
        )
    # Formats of other systems; an empty file or a linker's script is neither.
    is_foreign = data[:4].hex() in ("cffaedfe", "cefaedfe", "cafebabe") or data[:2] == b"MZ"
    return Binary(path, None, 0, False, ()) if is_foreign and is_native(path) else None


def _name(binary: Binary) -> str:
    """Return the processor that a file is compiled for."""
    return ELF_MACHINES.get(binary.machine or 0, f"machine {binary.machine}")


def find_misfit(binaries: Collection[Binary], target: Target) -> Misfit | None:
    """Say why none of these files, which stand for each other, runs on the target."""
    wanted = MACHINES[target.platform]
    fitting = [found for found in binaries if _name(found) == wanted and not found.musl]
    if binaries and not fitting:
        first = next(iter(binaries))
        if first.machine is None:
            return Misfit(f"`{first.path}` is no Linux binary")
        if _name(first) == wanted:
            return Misfit(f"`{first.path}` is linked with musl, and guests have glibc")
        return Misfit(f"`{first.path}` is compiled for {_name(first)}, and guests are {wanted}")
    worst = max(fitting, key=lambda found: found.glibc, default=None)
    if worst and worst.glibc > int(target.glibc.split(".")[1]):
        message = f"`{worst.path}` needs glibc 2.{worst.glibc}, and guests may have {target.glibc}"
        return Misfit(message, worst.glibc)
    return None


def find_strangers(binaries: Iterable[Binary], brought: Collection[str]) -> dict[str, list[str]]:
    """Return libraries that nobody is sure to bring, each with the files that need it.

    `brought` are the base names of what comes along.
    """
    strangers: dict[str, list[str]] = {}
    for binary in binaries:
        for library in binary.needed:
            if not _EVERYWHERE.fullmatch(library) and library not in brought:
                strangers.setdefault(library, []).append(binary.path)
    return strangers


def _read_needed(data: bytes) -> tuple[str, ...]:
    """Return DT_NEEDED; nothing where the file cannot be read, as it is only warned of."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

    try:
        return tuple(
            tag.needed  # type: ignore[attr-defined]  # DT_NEEDED's own
            for segment in ELFFile(io.BytesIO(data)).iter_segments("PT_DYNAMIC")
            if isinstance(segment, DynamicSegment)
            for tag in segment.iter_tags("DT_NEEDED")
        )
    except (ELFError, ValueError, AttributeError, KeyError, IndexError, AssertionError):
        return ()
