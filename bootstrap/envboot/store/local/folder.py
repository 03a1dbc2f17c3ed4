"""Objects as files below one folder: whole or absent, never replaced unless asked."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.store.keys import RESERVED, find_fault
from envboot.store.protocol import Listing, Stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

CHUNK = 1 << 20
_KEY_FILE = RESERVED + "key"


class OutsideError(OSError):
    """A key that names no file below the folder, as through a symbolic link."""


class ObjectFolder:
    """The files below one folder, by key. Errors are `OSError`."""

    def __init__(self, root: Path):
        self.root = Path(os.path.realpath(root))

    def path(self, key: str) -> Path:
        """Return where the object is, or would be.

        Raises:
            OutsideError: the key is not acceptable, or leads through a symbolic link.
        """
        if fault := find_fault(key):
            raise OutsideError(f"Key {key!a}: {fault}")
        path = self.root / key
        if os.path.realpath(path) != str(path):
            raise OutsideError(f"Key {key!a} leads through a symbolic link")
        return path

    def open(self, key: str) -> BinaryIO | None:
        """Open an object for reading, None where there is none."""
        try:
            file = self.path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            return None
        return file

    def find(self, key: str) -> Stat | None:
        """Return what is known of one object, None where there is none."""
        try:
            found = self.path(key).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _stat(key, found) if stat.S_ISREG(found.st_mode) else None

    def create(self, key: str, write: Callable[[BinaryIO], None]) -> bool:
        """Write an object that must not exist yet; False when it is already there.

        Of several writers exactly one wins: a hard link, unlike a rename, never replaces.
        """
        path = self.path(key)
        with self._unfinished(path, write) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Write an object, whether or not there is one."""
        path = self.path(key)
        with self._unfinished(path, lambda file: _write(file, data)) as temporary:
            temporary.replace(path)

    @contextlib.contextmanager
    def _unfinished(
        self, path: Path, write: Callable[[BinaryIO], None], mode: int = 0o666
    ) -> Iterator[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{RESERVED}{secrets.token_hex(8)}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(descriptor)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.path(key).unlink()

    def touch(self, key: str) -> None:
        """Make an object's last change now; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.utime(self.path(key), follow_symlinks=False)

    def walk(self, prefix: str = "") -> Iterator[Stat]:
        """Yield the objects below a key prefix in the order of their UTF-8 bytes, as S3 does."""
        keys = []
        # Only below the prefix's own folder: a launch looks at its reports many times.
        for folder, folders, names in os.walk(self.root / prefix.rpartition("/")[0]):
            folders[:] = [name for name in folders if not name.startswith(RESERVED)]
            below = Path(folder).relative_to(self.root)
            keys += [(below / name).as_posix() for name in names]
        for key in sorted((key for key in keys if key.startswith(prefix)), key=os.fsencode):
            with contextlib.suppress(OutsideError):
                if found := self.find(key):
                    yield found

    def list_folder(self, prefix: str) -> Listing:
        """Return what is right below a prefix that ends with `/`."""
        files, folders = [], []
        for name in sorted(_list_names(self.root / prefix), key=os.fsencode):
            with contextlib.suppress(OutsideError):
                if (self.root / prefix / name).is_dir():
                    # What is empty, or has only unfinished files, is no folder of a bucket.
                    folders += [name] if any(self.walk(f"{prefix}{name}/")) else []
                elif found := self.find(prefix + name):
                    files.append(found)
        return Listing(objects=tuple(files), folders=tuple(folders))

    def secret(self) -> bytes:
        """Return the folder's signing key, made at its first use; only its owner can read it."""
        path = self.root / _KEY_FILE
        fresh = secrets.token_hex(32).encode()
        if not path.exists():
            with (
                self._unfinished(path, lambda file: _write(file, fresh), 0o600) as temporary,
                contextlib.suppress(FileExistsError),
            ):
                os.link(temporary, path)
        flags = os.O_RDONLY | (0 if os.name == "nt" else os.O_NOFOLLOW)
        with open(os.open(path, flags), "rb") as file:
            if os.name != "nt" and os.fstat(file.fileno()).st_mode & 0o077:
                # A backup or a `cp` has opened it to others.
                os.fchmod(file.fileno(), 0o600)
            return file.read()


def _list_names(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in names if not name.startswith(RESERVED)]


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _stat(key: str, found: os.stat_result) -> Stat:
    modified = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    return Stat(key=key, size=found.st_size, modified=modified)
