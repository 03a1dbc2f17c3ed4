"""Files that appear whole: written beside their place first, synced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


MOST = 64 << 20
"""The largest document of another tool that is read: none is a tenth as large."""


def read_document(file: Path, *, regular: bool = False) -> bytes:
    """Read what somebody else may have written, which is not larger than `MOST`.

    A pipe is read as well, unless the file must be `regular`: whoever opens one waits for its
    writer.

    Raises:
        OSError: it cannot be read, is larger, or something else than it must be.
    """
    if regular and file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")
    with file.open("rb") as stream:
        data = stream.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(errno.EFBIG, f"Larger than {MOST >> 20} MiB")
    return data


def write_whole(file: Path, data: bytes) -> None:
    """Write a file that only this user can read, whole or not at all.

    Raises:
        OSError: the directory does not exist, or cannot be written to.
    """
    handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, file)  # noqa: PTH105
    except BaseException:
        os.unlink(scratch)  # noqa: PTH108
        raise


def hash_file(file: str | Path) -> str:
    """Return the sha256 (hex) of a file's content."""
    total = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
