"""What of a scan is told from outside the interpreter, beside the probe's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envboot.redaction import HIDDEN, is_secret, strip_document
from envboot.scan.cuda import find_cuda
from envboot.scan.loose import find_loose, list_places, take_places
from envboot.scan.makers import find_manager
from envboot.scan.projects import find_problems
from envboot.scan.schema import read_scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from envboot.scan.loose import PathEntry
    from envboot.scan.schema import Scan


def complete(
    document: Any,
    *,
    environment: Mapping[str, str],
    folder: Path,
    path: Sequence[str] | None = None,
    loose: bool = True,
) -> Scan:
    """Read the probe's document, and add loose code, the maker and what will not travel.

    `path` is the `sys.path` of a running interpreter; without it, the current folder, where
    `loose` does not leave it out, and `PYTHONPATH` are what Python looks into first.
    """
    places, provided = take_places(document)
    before = list_places(folder, environment, current=loose)
    behind: list[PathEntry] = []
    if path is not None:
        from envboot.scan.here import split_path

        before, behind = split_path(path, folder, places)
    strip_document(document)
    found = read_scan(document)
    code, problems = find_loose(
        found, [*before, *places, *behind], provided, environment=environment
    )
    return replace(
        found,
        manager=find_manager(found),
        cuda=find_cuda(),
        loose=code,
        variables={
            name: HIDDEN if is_secret(name, value) else value
            for name, value in found.variables.items()
        },
        problems=(
            *found.problems,
            *find_problems(found),
            *problems,
        ),
    )
