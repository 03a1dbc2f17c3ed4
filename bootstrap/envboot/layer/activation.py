"""What activating a conda environment sets here: the same for the command on the machines.

conda reads variables from packages (`etc/conda/env_vars.d/*.json`), then from `conda env config
vars` (`conda-meta/state`), and sources `etc/conda/activate.d/*.sh` after that (conda's "Managing
environments"). Packages bring their scripts themselves, and the agent sources all of them. What
the user has set or written is put beside them.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.redaction import is_secret
from envboot.scan.schema import Problem
from envboot.text import is_variable_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot.scan.schema import Scan

SCRIPTS = "etc/conda/activate.d"
VARIABLES = f"{SCRIPTS}/00-envboot-variables.sh"
"""Sourced first: scripts may use and change variables, as with conda."""

UNSET = "***unset***"
"""What `conda env config vars unset` leaves (`CONDA_ENV_VARS_UNSET_VAR`)."""

_ASSIGNMENT = re.compile(r"(?m)^[^#\n]*?\b([A-Za-z_]\w*)=(?=[^\s;])")


def render_activation(scan: Scan, prefix: str) -> tuple[dict[str, bytes], tuple[Problem, ...]]:
    """Return the files that activation on the machines needs, by path, and what is not sent.

    Where a value is at or below the environment here, it is below `prefix` there.
    """
    here = scan.interpreter.prefix
    files: dict[str, bytes] = {}
    notes: list[Problem] = []
    values = {}
    for name, value in scan.variables.items():
        if not is_variable_name(name):
            notes.append(Problem(subject=name, message="Not set: no shell takes such a name"))
        elif is_secret(name, value):
            notes.append(Problem(subject=name, message=_withhold("looks like a secret", name)))
        else:
            values[name] = value.replace(here, prefix) if here else value
    if values:
        files[VARIABLES] = _render_variables(values).encode("utf-8", "surrogateescape")
    for path in scan.activation:
        try:
            content = Path(here, path).read_bytes()
        except OSError as error:
            notes.append(Problem(subject=path, message=f"Not sent: {error.strerror}"))
            continue
        names = _ASSIGNMENT.findall(content.decode("utf-8", "replace"))
        secrets = sorted({name for name in names if is_secret(name)})
        if secrets:
            message = _withhold(f"sets `{secrets[0]}`, which looks like a secret", secrets[0])
            notes.append(Problem(subject=path, message=message))
        else:
            files[path] = content
    return files, tuple(notes)


def _withhold(why: str, name: str) -> str:
    return f"Not sent: {why}; to set it for the command, use `--secret {name}`"


def _render_variables(values: Mapping[str, str]) -> str:
    """Return a script that sets variables, but for those that `--env` gives."""
    lines = ["# Variables of the environment, as conda sets them."]
    for name, value in values.items():
        setting = f"unset {name}" if value == UNSET else f"export {name}={shlex.quote(value)}"
        lines.append(f'case ",${{ENVBOOT_GIVEN-}}," in *,{name},*) ;; *) {setting} ;; esac')
    return "\n".join(lines) + "\n"
