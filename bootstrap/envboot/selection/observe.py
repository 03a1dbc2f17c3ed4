"""The environment that a selection means: scanned, and named before anything else happens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from envboot.errors import UsageError
from envboot.scan import scan, scan_running
from envboot.scan.discovery import describe_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.scan.schema import Scan
    from envboot.selection import Selection
    from envboot.session import Session

# The command line shows it on stderr.
LOG = logging.getLogger(__name__)


def observe(selection: Selection, session: Session, path: Sequence[str] | None = None) -> Scan:
    """Scan the environment, and log which one it is; of a lock file's nothing is sent or logged.

    `path` is the `sys.path` of the running interpreter, which is then the one that is scanned.

    Raises:
        UsageError: the selection names another interpreter than the running one.
        ScanError: see `scan`.
    """
    environment, folder = session.environment, session.folder
    if path is None:
        found = scan(
            selection.python,
            environment=environment,
            folder=folder,
            loose=selection.loose,
            # A lock file's packages are sent instead.
            own=selection.lock_file is not None,
        )
    elif selection.python is None:
        found = scan_running(path, environment=environment, folder=folder)
    else:
        raise UsageError(
            f"Cannot scan the running interpreter and `{selection.python}` at once",
            hint="Leave one of them out",
        )
    if not selection.lock_file:
        LOG.info("environment  %s", describe_environment(found, environment))
    return found
