"""Zstandard through `libzstd.so.1` (dpkg, rpm and systemd bring it), else the `zstd` command."""

from __future__ import annotations

import ctypes
import subprocess
from typing import Any, List, Optional

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
    found.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, size]
    found.ZSTD_getFrameContentSize.argtypes = [ctypes.c_char_p, size]
    found.ZSTD_isError.argtypes = found.ZSTD_getErrorName.argtypes = [size]
    return found


lib = _load()
# One buffer for all frames: a fresh one each time would be paged in anew.
_buffer: List[Any] = []


def checked(code: int) -> int:
    """Return a size that libzstd returned; AgentError where it is an error code."""
    if lib is not None and lib.ZSTD_isError(code):
        raise AgentError("zstd: " + lib.ZSTD_getErrorName(code).decode())
    return code


def run_command(data: bytes, *options: str) -> bytes:
    """Pipe data through the `zstd` command."""
    done = subprocess.run(["zstd", "-q", *options], input=data, capture_output=True, check=False)
    if done.returncode:
        raise AgentError("zstd: " + done.stderr.decode())
    return done.stdout


def decode(frame: bytes, raw: int) -> memoryview:
    """Return the `raw` bytes of one frame; the view is good until the next call.

    Raises:
        AgentError: the frame is damaged, or holds more or less than `raw` bytes.
    """
    if lib is None:
        view = memoryview(run_command(frame, "-d"))
        size = len(view)
    else:
        if not _buffer or len(_buffer[0]) < raw:
            _buffer[:] = [ctypes.create_string_buffer(max(raw, 20 << 20))]
        size = checked(lib.ZSTD_decompress(_buffer[0], raw, frame, len(frame)))
        view = memoryview(_buffer[0]).cast("B")
    if size != raw:
        raise AgentError("zstd: a frame holds %d bytes, not %d" % (size, raw))
    return view[:raw]


def decode_all(data: bytes) -> bytes:
    """Return what all the frames in `data` hold, one after another.

    Raises:
        AgentError: one of them is damaged or does not state its size.
    """
    if lib is None:
        return run_command(data, "-d")
    content = b""
    while data:
        size = checked(lib.ZSTD_findFrameCompressedSize(data, len(data)))
        raw = lib.ZSTD_getFrameContentSize(data, size)
        if raw >> 62:
            raise AgentError("zstd: a frame does not state its size")
        content += decode(data[:size], raw)
        data = data[size:]
    return content
