"""The directories of this user: cache, state, and the bucket that is used when none is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
