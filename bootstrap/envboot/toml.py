"""TOML: the standard library's reader, which Python 3.10 has as `tomli`, and tables of data."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_data", "tomllib"]


def read_data(name: str) -> dict[str, Any]:
    """Read a table of data that comes with envboot: a file of `templates/`, by its name."""
    file = resources.files("envboot.templates").joinpath(name)
    return tomllib.loads(file.read_text("utf-8"))
