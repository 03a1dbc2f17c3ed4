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


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A payload, and `size`, what of it counts against the limit; `encoding` may be `base64`."""

    body: bytes
    size: int
    encoding: str | None = None


def gzip_bytes(data: bytes) -> bytes:
    """Compress as hard as zlib can, without a time or a name in the header."""
    # By hand: what the gzip module writes into the header differs between Python versions.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    packed = packer.compress(data) + packer.flush()
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + packed + struct.pack("<LL", zlib.crc32(data), len(data))
    )


def squeeze(data: bytes) -> bytes:
    """Compress to gzip that is 3 % smaller than zlib's, for twenty times the time (25 ms)."""
    from zopfli.gzip import compress

    packed: bytes = compress(data)
    return packed


def encode(data: bytes, rules: Rules, *, packed: bool) -> Encoded:
    """Return the payload; what zlib leaves just too large is compressed harder."""
    if not packed:
        return _encode(data, rules, packed=False)
    found = _encode(gzip_bytes(data), rules, packed=True)
    if rules.limit and rules.limit < found.size <= rules.limit * 1.05:
        return _encode(squeeze(data), rules, packed=True)
    return found


def _encode(body: bytes, rules: Rules, *, packed: bool) -> Encoded:
    if rules.base64 == "always" or (rules.base64 == "gzip" and packed):
        text = base64.b64encode(body)
        size = len(text) if rules.limit_encoded else len(body)
        return Encoded(body=text, size=size, encoding="base64")
    return Encoded(body=body, size=len(body))


def measure(pieces: list[tuple[str, str]], size: int, *, packed: bool) -> tuple[Cost, ...]:
    """Return what each part adds to a document, the costliest first; they sum up to its `size`."""
    raw: dict[str, int] = {}
    counted: dict[str, int] = {}
    data, before = b"", 0
    for name, text in pieces:
        data += text.encode("ascii")
        after = len(gzip_bytes(data)) if packed else len(data)
        raw[name] = raw.get(name, 0) + len(text)
        counted[name] = counted.get(name, 0) + after - before
        before = after
    # In base64, or compressed harder, everything counts for as much more or less.
    shares = {name: value * size // max(before, 1) for name, value in counted.items()}
    if shares:
        shares[max(shares, key=lambda name: shares[name])] += size - sum(shares.values())
    rows = [Cost(part=name, raw=raw[name], counted=shares[name]) for name in raw]
    return tuple(sorted(rows, key=lambda row: (-row.counted, row.part)))
