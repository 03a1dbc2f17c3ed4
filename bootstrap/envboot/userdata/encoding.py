"""How a document's bytes travel, and what each part of it costs there. Pure."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a launch path takes.

    `limit` is in bytes, of the value before base64 or, with `limit_encoded`, after it. `base64`
    is `never`, `always` or `gzip` (when the value is binary); `mime` False wants a bare script.
    """

    limit: int | None = None
    limit_encoded: bool = False
    base64: Literal["never", "always", "gzip"] = "never"
    gzip: bool = True
    mime: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one part costs: bytes as they are, and as they count against the limit."""

    part: str
    raw: int
    counted: int


def join(pieces: list[tuple[str, str]]) -> bytes:
    """Return the document of which these are the pieces (part, ASCII text)."""
    return "".join(text for _, text in pieces).encode("ascii")


def gzip_bytes(data: bytes) -> bytes:
    """Compress as hard as zlib can, without a time or a name in the header."""
    # By hand: what the gzip module writes into the header differs between Python versions.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    packed = packer.compress(data) + packer.flush()
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + packed + struct.pack("<LL", zlib.crc32(data), len(data))
    )


def encode(data: bytes, rules: Rules, *, packed: bool) -> tuple[bytes, str | None]:
    """Return the payload, and `base64` where it is base64 text."""
    body = gzip_bytes(data) if packed else data
    if rules.base64 == "always" or (rules.base64 == "gzip" and packed):
        return base64.b64encode(body), "base64"
    return body, None


def count(data: bytes, rules: Rules, *, packed: bool) -> int:
    """Return how many bytes count against the limit."""
    if rules.limit_encoded:
        return len(encode(data, rules, packed=packed)[0])
    return len(gzip_bytes(data)) if packed else len(data)


def measure(pieces: list[tuple[str, str]], rules: Rules, *, packed: bool) -> tuple[Cost, ...]:
    """Return what each part adds to the document, the costliest first; they sum up to it."""
    raw: dict[str, int] = {}
    counted: dict[str, int] = {}
    data, before = b"", 0
    for name, text in pieces:
        data += text.encode("ascii")
        after = count(data, rules, packed=packed)
        raw[name] = raw.get(name, 0) + len(text)
        counted[name] = counted.get(name, 0) + after - before
        before = after
    rows = [Cost(part=name, raw=raw[name], counted=counted[name]) for name in raw]
    return tuple(sorted(rows, key=lambda row: (-row.counted, row.part)))
