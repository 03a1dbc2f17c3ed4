"""What can be imported here can be imported there, or is named: generated site-packages."""

from __future__ import annotations

import shutil
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scan.sites import bring, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
