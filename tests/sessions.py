"""Sessions for tests: of this process, with what a test wants otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.config import Settings
from envboot.folders import cache_folder, state_folder
from envboot.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_session(
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    cache: Path | None = None,
    state: Path | None = None,
    settings: Settings | None = None,
) -> Session:
    """Return a session of this process without the settings of any project."""
    given = os.environ if environment is None else environment
    return Session(
        folder=folder or Path.cwd(),
        environment=dict(given),
        cache=cache or cache_folder(os.environ),
        state=state or state_folder(os.environ),
        settings=settings or Settings(),
    )
