"""The directories of this user: cache, state, and the bucket that is used when none is named."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHARED = frozenset((
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/proc",
    "/root", "/run", "/srv", "/sys", "/tmp", "/usr", "/usr/local",  # noqa: S108
    "/var", "/var/cache", "/var/lib", "/var/tmp",  # noqa: S108
))  # fmt: skip
"""Directories that other programs need (Filesystem Hierarchy Standard), and root could close."""


def home_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's own directory, by `HOME`, else as the operating system knows it."""
    return Path(environment.get("HOME") or Path.home())


def config_folder(environment: Mapping[str, str]) -> Path:
    """Return where other tools' settings of this user are (XDG Base Directory Specification)."""
    return Path(environment.get("XDG_CONFIG_HOME") or home_folder(environment) / ".config")


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the cache directory: `ENVBOOT_CACHE_DIR`, else the platform's own for `envboot`."""
    chosen = environment.get("ENVBOOT_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("envboot"))


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the state directory: `ENVBOOT_STATE_DIR`, else the platform's own for `envboot`.

    The instances of this machine and the records of launches are there.
    """
    chosen = environment.get("ENVBOOT_STATE_DIR")
    if chosen:
        return Path(chosen).absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("envboot"))


def own_store(state: Path) -> str:
    """Return the URL of this user's own bucket, a directory below the state directory."""
    # The one character of a path that means something else in such a URL.
    return f"file://{state / 'store'}".replace("%", "%25")


def ensure_private(folder: Path, home: Path) -> None:
    """Make a directory that nobody else may enter; one of ours that others may enter is closed.

    Cached programs and wheels are run, and grants, keys and records are read: who could write
    there would be this user, and who could read there would have its launches' permissions. One
    that cannot be made is for whoever writes there to complain about: a scan needs none.

    Raises:
        UsageError: it belongs to somebody else, others need it too (as `home`), or it is no
            directory.
    """
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    if os.name == "nt":
        # A profile's directories are its user's; there are no such modes.
        return
    try:
        found = folder.stat()
    except OSError:
        return
    hint = "Set `ENVBOOT_CACHE_DIR` and `ENVBOOT_STATE_DIR` to directories of your own"
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"Expected a directory at `{folder}`, found a file", hint=hint)
    if found.st_uid != os.geteuid():
        raise UsageError(
            f"Cannot use `{folder}`: it belongs to `{_find_user(found.st_uid)}`",
            causes=("Its owner could change what envboot runs as you",),
            hint=hint,
        )
    real = folder.resolve()
    if str(real) in _SHARED or real == home.resolve() or found.st_mode & stat.S_ISVTX:
        raise UsageError(
            f"Expected a directory for envboot alone, found `{folder}`",
            hint=f"Set `ENVBOOT_CACHE_DIR` and `ENVBOOT_STATE_DIR` to others: `{real / 'envboot'}`",
        )
    if found.st_mode & 0o077:
        # Some file systems (FAT, network shares) have no modes.
        with contextlib.suppress(OSError):
            folder.chmod(stat.S_IMODE(found.st_mode) & 0o700)


def _find_user(number: int) -> str:
    """Return a user's name, the number of one that has none here."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
