"""Zstandard through `libzstd.so.1`, which dpkg, rpm and systemd bring."""

from __future__ import annotations

import ctypes
from typing import Any, Iterator, List, Optional

from .wire import AgentError


def _load() -> Optional[Any]:
    try:
        found = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    size = ctypes.c_size_t
    found.ZSTD_getErrorName.restype = ctypes.c_char_p
    found.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    found.ZSTD_decompress.restype = found.ZSTD_findFrameCompressedSize.restype = size
    found.ZSTD_decompress.argtypes = [ctypes.c_void_p, size, ctypes.c_char_p, size]
    found.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_void_p, size]
    found.ZSTD_getFrameContentSize.argtypes = found.ZSTD_findFrameCompressedSize.argtypes
    found.ZSTD_getErrorName.argtypes = [size]
    return found


lib = _load()
# Bytes of one frame, packed or raw, at most: three times what `pack` aims at. Otherwise a few
# bytes that claim gigabytes would have each worker take that much memory.
MOST = 48 << 20
# One buffer for all frames: a fresh one each time would be paged in anew.
_buffer: List[Any] = []


def checked(code: Any) -> int:
    """Return a size that libzstd returned; AgentError where it is an error code, or not here."""
    if lib is None:
        raise AgentError("libzstd.so.1 is not here")
    if code >> 62:
        # Errors are the highest numbers.
        raise AgentError("zstd: " + lib.ZSTD_getErrorName(code).decode())
    found: int = code
    return found


def decode(frame: bytes, raw: int) -> memoryview:
    """Return the `raw` bytes of one frame; the view is good until the next call.

    Raises:
        AgentError: the frame is damaged, holds more or less than `raw` bytes, or too many.
    """
    if not 0 <= raw <= MOST:
        raise AgentError("zstd: a frame of %d bytes" % raw)
    if not _buffer or len(_buffer[0]) < raw:
        _buffer[:] = [ctypes.create_string_buffer(max(raw, 20 << 20))]
    size = checked(lib and lib.ZSTD_decompress(_buffer[0], raw, frame, len(frame)))
    if size != raw:
        raise AgentError("zstd: a frame holds %d bytes, not %d" % (size, raw))
    return memoryview(_buffer[0]).cast("B")[:raw]


def decode_all(data: bytes) -> Iterator[memoryview]:
    """Yield what the frames in `data` hold, one after another; each view is good until the next.

    Raises:
        AgentError: one of them is damaged, does not state its size, or all hold more than 8 GiB.
    """
    at, left = 0, 8 << 30
    # No copy of the rest for each frame: there may be a million small ones.
    start: Any = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    while at < len(data):
        size = checked(lib and lib.ZSTD_findFrameCompressedSize(start + at, len(data) - at))
        raw = lib.ZSTD_getFrameContentSize(start + at, size) if lib else 0
        left -= raw
        # What is unknown counts as 2**64.
        yield decode(data[at : at + size], raw if left > 0 else -1)
        at += size
