"""What can be imported here can be imported there, or is named: generated site-packages."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envboot.layer.loose_files import collect
from envboot.scan.loose import PathEntry, find_loose, join_added
from envboot.scan.probe import distributions
from envboot.scan.probe.found import Environment
from envboot.scan.schema import Distribution
from tests.lock.documents import make_scan
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envboot.scan.schema import Problem

pytestmark = pytest.mark.subprocess
NAMES = st.sampled_from(["alpha", "beta", "corp", "corp/core", "corp/tools", "alpha/sub"])
LEAVES = st.sampled_from(
    ["__init__.py", "mod.py", "data.json", "model.bin", "ext.so", "__pycache__/mod.pyc", "a b.py"]
)
PATHS = st.one_of(
    st.builds("{}/{}".format, NAMES, LEAVES),
    st.sampled_from(["single.py", "notes.txt", "tool.pth", "top.json"]),
)
INSTALLED = st.dictionaries(PATHS, st.booleans(), max_size=8)
"""Path to whether a distribution's RECORD lists it; the others were put there by hand."""
LINKS = st.dictionaries(NAMES.map(lambda name: f"{name}/linked"), st.booleans(), max_size=1)


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


def importable(site: Path) -> Iterator[str]:
    """Yield by path what Python finds: modules at every depth, and data beside them.

    Python decides, by its own finder: a directory is a package only if its name is one.
    """

    def look(folder: Path, at: str) -> Iterator[str]:
        for entry in sorted(folder.iterdir()):
            path = f"{at}{entry.name}"
            if entry.name == "__pycache__" or entry.name.endswith(".dist-info"):
                continue
            if entry.is_dir():
                if PathFinder.find_spec(entry.name, [str(folder)]) is not None:
                    yield from look(entry, f"{path}/")
            elif at or PathFinder.find_spec(entry.stem, [str(folder)]) is not None:
                yield path

    yield from look(site, "")


def bring(site: Path) -> tuple[set[str], tuple[Problem, ...]]:
    """Return what is sent of a site-packages, by the very code that a launch runs."""
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
    code = collect(join_added(loose, installed), make_session(environment={}), brought={})
    known = {path for item in found.problems for path in [item["subject"]]}
    sent = {file.path for file in code.files}
    return sent | known, (*problems, *code.notes)


@settings(max_examples=60, deadline=None)
@given(files=INSTALLED, links=LINKS)
def test_what_python_finds_here_is_installed_there_or_sent_or_named(
    files: Mapping[str, bool], links: Mapping[str, bool]
) -> None:
    top = Path(tempfile.mkdtemp(prefix="envboot-property-"))
    try:
        site = top / "site-packages"
        site.mkdir()
        for path in files:
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text("" if path.endswith(".pth") else "X = 1\n")
        for path, leads in links.items():
            if (site / path).parent.is_dir():
                (top / "elsewhere").mkdir()
                (top / "elsewhere/mod.py").write_text("X = 2\n")
                (site / path).symlink_to(top / ("elsewhere" if leads else "nowhere"))
        listed = [path for path, is_listed in files.items() if is_listed]
        if listed:
            record(site, "owner", listed)
        sent, problems = bring(site)
        said = " ".join(f"{item.subject} {item.message}" for item in problems)
        for path in importable(site):
            parts = path.split("/")
            above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
            is_named = any(f"`{each}`" in said or f"`{each}/`" in said for each in above)
            assert path in listed or path in sent or is_named, (path, files, sent, said)
    finally:
        shutil.rmtree(top)
