"""What decides where packages are looked up: a change asks for a new lock."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from envboot.indexes.channels import find_condarc_files
from envboot.indexes.pip import find_pip_files
from envboot.indexes.uv import find_uv_files, read_table
from envboot.redaction import strip_channel
from envboot.tool_variables import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PREFIXES = ("UV_", "PIP_", "CONDA_CHANNELS", "CONDA_CHANNEL_ALIAS", "CONDA_DEFAULT_CHANNELS")
_IRRELEVANT = ("PASSWORD", "TOKEN", "CACHE", "PROGRESS", "TIMEOUT", "CONCURRENT", "THREADS")


def describe_indexes(environment: Mapping[str, str], folder: Path, prefix: Path) -> dict[str, str]:
    """Return the settings of uv, pip and conda: variables without credentials, files as hashes.

    `folder` is the working folder, `prefix` the scanned environment.
    """
    # uv is handed none of conda's variables, but channels are read here.
    conda = {name: value for name, value in environment.items() if name.startswith("CONDA_")}
    found = {
        name: " ".join(strip_channel(word) for word in value.split())
        for name, value in {**clean_environment("uv", environment), **conda}.items()
        if name.startswith(_PREFIXES) and not any(part in name for part in _IRRELEVANT)
    }
    files = [
        *find_uv_files(environment, folder),
        *find_pip_files(environment, prefix),
        *find_condarc_files(environment),
    ]
    for file in files:
        if file.is_file():
            # Of a pyproject.toml, only uv's part.
            is_project = file.name == "pyproject.toml"
            data = repr(read_table(file)).encode() if is_project else file.read_bytes()
            found[str(file)] = hashlib.sha256(data).hexdigest()
    return found
