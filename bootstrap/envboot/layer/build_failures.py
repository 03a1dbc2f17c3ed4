"""Why a build failed, in its own last words, and whether isolation may be why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envboot.errors import LayerError
from envboot.redaction import strip_url

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.schema import Source

_TAIL = 15
# What a build says that lacks a package or a program.
_LACKS = re.compile(
    r"No module named|ImportError|(not|n't|cannot|could not) (be )?f(ou|i)nd", re.IGNORECASE
)


def explain_failure(source: Source, said: str, log: Path, *, isolated: bool) -> LayerError:
    """Return the error of a build that printed `said`, which is in the file `log`."""
    # uv's own words around those of the build say nothing that we do not say.
    chatter = ("Building wheel", "hint:", "Caused by:")
    stripped = (line.rstrip() for line in said.splitlines() if line.strip())
    lines = [line for line in stripped if not line.strip().startswith(chatter)]
    where = source.path or strip_url(source.git or "")
    return LayerError(
        f"Failed to build a wheel of `{source.name}` from `{where}`",
        causes=tuple(lines[-_TAIL:]) or ("The build printed nothing and left no wheel",),
        hint=f"{_explain_isolation(source, said, isolated=isolated)}The whole log is `{log}`",
    )


def _explain_isolation(source: Source, said: str, *, isolated: bool) -> str:
    if not isolated:
        return (
            "It is built with the packages of the environment (`no-build-isolation` in "
            "`[tool.envboot]`): install its build requirements there. "
        )
    if not _LACKS.search(said):
        return ""
    return (
        "Builds are isolated. If it was installed with `--no-build-isolation`, set "
        f'`no-build-isolation = ["{source.name}"]` in `[tool.envboot]`: it is then built with '
        "the packages of the environment. "
    )
