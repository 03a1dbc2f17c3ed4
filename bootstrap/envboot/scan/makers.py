"""Which program made an environment, by what each leaves there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.scan.schema import Scan

_COMMAND = re.compile(r"# cmd: .*?(micromamba|mamba|conda)(-script\.py|\.exe)?(\s|$)")


def find_manager(scan: Scan) -> str | None:
    """Return `uv`, `poetry`, `conda`, …; None for a system's Python, or where nothing says it."""
    prefix = Path(scan.interpreter.prefix)
    if scan.kind == "conda":
        # Of a venv on top, conda's environment is the one below.
        if not (prefix / "conda-meta").is_dir():
            prefix = Path(scan.interpreter.base_prefix)
        if (prefix / "conda-meta" / "pixi").exists():
            return "pixi"
        command = _COMMAND.search(_read(prefix / "conda-meta" / "history"))
        return command[1] if command else None
    return _find_maker_of_venv(prefix) if scan.kind == "venv" else None


def _find_maker_of_venv(prefix: Path) -> str | None:
    """Project tools come first: they let virtualenv, venv or uv do the work."""
    if (prefix / ".project").is_file():
        return "pipenv"
    if "pypoetry" in prefix.parts:
        return "poetry"
    if prefix.parent.parts[-2:] == ("pdm", "venvs"):
        return "pdm"
    inside = prefix.name == ".venv"  # the project's folder
    if inside and _read(prefix.parent / ".pdm-python").startswith(f"{prefix}/"):
        return "pdm"
    lines = (line.partition("=") for line in _read(prefix / "pyvenv.cfg").splitlines())
    keys = {key.strip() for key, equals, _ in lines if equals}
    if inside and "virtualenv" in keys and (prefix.parent / "poetry.lock").is_file():
        return "poetry"
    return next((name for name in ("uv", "virtualenv") if name in keys), "venv")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
