"""Site-packages made by hand, as an installer leaves them, and what is sent of one."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.layer.loose_files import collect
from envboot.scan.loose import PathEntry, find_loose, join_added
from envboot.scan.probe import distributions
from envboot.scan.probe.found import Environment
from envboot.scan.schema import Distribution
from tests.lock.documents import make_scan
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.scan.schema import Problem


def record(site: Path, name: str, paths: Sequence[str]) -> None:
    """Write the metadata that an installer leaves."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "INSTALLER").write_text("pip\n")
    rows = [f"{info.name}/METADATA,,", f"{info.name}/INSTALLER,,", f"{info.name}/RECORD,,"]
    for path in paths:
        data = (site / path).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(data)}")
    (info / "RECORD").write_text("\n".join(rows) + "\n")


def bring(site: Path, *dropped: str) -> tuple[set[str], tuple[Problem, ...]]:
    """Return what is sent of a site-packages, by the very code that a launch runs.

    The distributions in `dropped` are not sent.
    """
    found, before = Environment(), Path.cwd()
    try:
        distributions.scan_folder(found, str(site))
    finally:
        os.chdir(before)
    (folder,) = found.folders
    place = PathEntry(folder=site, origin="site", names=tuple(folder["strays"]))
    installed = tuple(
        Distribution(
            name=item["name"],
            version=item["version"],
            location=item["location"],
            added=tuple(item.get("added", ())),
        )
        for item in found.distributions.values()
    )
    loose, problems = find_loose(make_scan(*installed), [place], {}, environment={})
    code = collect(
        join_added(loose, [item for item in installed if item.name not in dropped]),
        make_session(environment={}),
        brought={},
    )
    known = {path for item in found.problems for path in [item["subject"]]}
    sent = {file.path for file in code.files}
    return sent | known, (*problems, *code.notes)
