"""What one run of envboot works with: made once at the edge, handed down whole."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.folders import cache_folder, ensure_private, home_folder, own_store, state_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The working directory, the environment variables, our own directories and the settings.

    Nothing below the command line and `Cluster` reads `os.environ` or the working directory, so
    that two sessions in one process cannot reach into each other. `folder` is absolute; relative
    paths and loose code are looked for there. `environment` is a copy: later changes of
    `os.environ` do not show.
    """

    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    cache: Path
    state: Path
    settings: Settings

    @property
    def store(self) -> str:
        """The URL of the bucket where none is named: the project's, else this user's own."""
        return self.settings.store or own_store(self.state)


def open_session(settings: Settings | None = None) -> Session:
    """Return the session of this process, as it is now.

    Without `settings` they are read from the nearest `pyproject.toml` at or above the working
    directory.

    Nobody else may enter the two directories, wherever they are.

    Raises:
        UsageError: `[tool.envboot]` is malformed (see `read_settings`), or one of the directories
            is not for envboot alone.
    """
    folder, environment = Path.cwd(), dict(os.environ)
    if settings is None:
        from envboot.config import read_settings

        settings = read_settings(folder)
    cache, state = cache_folder(environment), state_folder(environment)
    for each in (cache, state):
        ensure_private(each, home_folder(environment))
    return Session(
        folder=folder,
        environment=environment,
        cache=cache,
        state=state,
        settings=settings,
    )
