"""Which modules an interpreter finds, without importing any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot import process
from envboot.tool_variables import clean_environment

if TYPE_CHECKING:
    from envboot.session import Session

# The current directory is left out: what of it is sent is known from the files themselves.
_PROGRAM = """\
import sys
sys.path[:] = [each for each in sys.path if each]
from importlib.util import find_spec
try:
    found = find_spec(sys.argv[1])
except ValueError:
    found = sys.modules.get(sys.argv[1])
sys.exit(3 if found is None else 0)
"""


def has_module(executable: str, session: Session, top: str) -> bool:
    """Whether an interpreter finds a top-level module in what is installed.

    One that cannot be asked is taken to have it: whatever is wrong with it is said elsewhere.
    """
    try:
        done = process.run(
            [executable, "-c", _PROGRAM, top],
            environment=clean_environment("python", session.environment),
            folder=session.folder,
            timeout=60,
        )
    except (OSError, TimeoutError):
        return True
    return done.code != 3
