"""Zstandard through `libzstd.so.1` (dpkg, rpm and systemd bring it), else the `zstd` command."""

from __future__ import annotations

import ctypes
import subprocess
from typing import Any, Iterator, List, Optional

from .wire import AgentError


def _load() -> Optional[Any]:
    try:
        found = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    size = ctypes.c_size_t
    scan, tell = found.ZSTD_findFrameCompressedSize, found.ZSTD_getFrameContentSize
    found.ZSTD_decompress.restype = scan.restype = tell.restype = size
    found.ZSTD_decompress.argtypes = [ctypes.c_void_p, size, ctypes.c_char_p, size]
    scan.argtypes = tell.argtypes = [ctypes.c_void_p, size]
    return found


lib = _load()
# Bytes of one frame, packed or raw, at most: three times what `pack` aims at. Otherwise a few
# bytes that claim gigabytes would have each worker take that much memory.
MOST = 48 << 20
# One buffer for all frames: a fresh one each time would be paged in anew.
_buffer: List[Any] = []


def checked(code: int) -> int:
    """Return a size that libzstd returned; AgentError where it is an error code."""
    if code >> 62:
        # The highest numbers: zstd_errors.h has their names.
        raise AgentError("zstd: error %d" % (2**64 - code))
    return code


def decode(frame: bytes, raw: int) -> memoryview:
    """Return the `raw` bytes of one frame; the view is good until the next call.

    Raises:
        AgentError: the frame is damaged, holds more or less than `raw` bytes, or too many.
    """
    if not 0 <= raw <= MOST:
        raise AgentError("zstd: a frame of %d bytes" % raw)
    if lib is None:
        view = _expand(frame, raw)
        size = len(view)
    else:
        if not _buffer or len(_buffer[0]) < raw:
            _buffer[:] = [ctypes.create_string_buffer(max(raw, 20 << 20))]
        size = checked(lib.ZSTD_decompress(_buffer[0], raw, frame, len(frame)))
        view = memoryview(_buffer[0]).cast("B")
    if size != raw:
        raise AgentError("zstd: a frame holds %d bytes, not %d" % (size, raw))
    return view[:raw]


def _expand(data: bytes, most: int) -> memoryview:
    """Decode with the command; of more than `most` bytes only one is read."""
    command = ["sh", "-c", "zstd -dq | head -c%d" % (most + 1)]
    return memoryview(subprocess.run(command, input=data, capture_output=True, check=False).stdout)


def decode_all(data: bytes) -> Iterator[memoryview]:
    """Yield what the frames in `data` hold, one after another; each view is good until the next.

    Raises:
        AgentError: one of them is damaged, does not state its size, or all hold more than 8 GiB.
    """
    at, left = 0, 8 << 30
    if lib is None:
        # Its frames are not looked at one by one.
        yield _expand(data, 1 << 30)
        return
    # No copy of the rest for each frame: there may be a million small ones.
    start: Any = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    while at < len(data):
        size = checked(lib.ZSTD_findFrameCompressedSize(start + at, len(data) - at))
        raw = lib.ZSTD_getFrameContentSize(start + at, size)
        left -= raw
        # What is unknown counts as 2**64.
        yield decode(data[at : at + size], raw if left > 0 else -1)
        at += size
