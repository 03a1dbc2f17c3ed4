"""Archives of source trees, unpacked to build there: sdists, and those of repositories."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from lzma import LZMAError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 4 << 30
"""Bytes; a source tree that is larger is none, but an archive that was made to fill the disk."""

_EARLIEST = 315_532_800
"""Seconds since 1970, on the 1st of January 1980."""


class UnpackError(Exception):
    """Why an archive cannot be unpacked."""


def unpack(archive: Path, target: Path) -> Path:
    """Unpack an archive into `target`, and return the directory that has the project.

    Its content says what kind it is, since the URLs of repositories' archives do not: zip, or tar
    with any compression that Python knows. If everything is in one directory, that is the one.
    Whoever made the archive may be anybody: nothing is written outside of `target`.

    Raises:
        UnpackError: it is no archive, is damaged, or has members that lead out of it.
    """
    target.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, LZMAError) as error:
        raise UnpackError(str(error) or type(error).__name__) from error
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise UnpackError(str(error)) from error
    entries = list(target.iterdir())
    is_wrapped = len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink()
    return entries[0] if is_wrapped else target


def _unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        _check_size(sum(member.file_size for member in opened.infolist()))
        for member in opened.infolist():
            # zipfile itself cuts `..` and roots off; and it makes no links.
            place = opened.extract(member, target)
            # The Unix mode, where the archive was made on one: `configure` has to be executable.
            if member.external_attr >> 16 & 0o100 and not member.is_dir():
                _make_executable(target / place)


def _make_executable(file: Path) -> None:
    file.chmod(0o755)


def _unpack_tar(archive: Path, target: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise UnpackError("unpacking it safely takes Python 3.10.12, 3.11.4 or later")
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        _check_size(sum(member.size for member in members))
        for member in members:
            # A wheel is a zip file, which can name no earlier moment.
            member.mtime = max(member.mtime, _EARLIEST)
        opened.extractall(target, members, filter="data")


def _check_size(size: int) -> None:
    if size > _MOST:
        raise UnpackError(f"it has {size} bytes unpacked, more than any source tree")
