"""What a scan says does not depend on the order in which files lie on the disk or in a list."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envboot.scan.probe.distributions import read_candidate, scan_folder
from envboot.scan.probe.found import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES = ["one-1.0.dist-info", "one-2.0.dist-info", "one-3.0.dist-info", "Two_X-1.0.dist-info",
           "three-1.0.egg-info", "bad-1.dist-info", "gone.egg-link", "one.py"]  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "site-packages")
        for entry in ENTRIES[:6]:
            (folder / entry).mkdir(parents=True)
            name, version = entry.rpartition(".")[0].split("-")
            (folder / entry / "RECORD").write_text("one.py,,3\nthree.py,,1\nfour.py,,1\n")
            if name != "bad":
                for file in ("METADATA", "PKG-INFO"):
                    (folder / entry / file).write_text(f"Version: {version}\nName: {name}\n\nx\n")
        (folder / "gone.egg-link").write_text("/gone\n.\n")
        (folder / "one.py").write_text("12")
        # All three agree equally badly with the disk, and two were written at the same time.
        for entry, time in zip(ENTRIES[:3], (5, 9, 9), strict=True):
            os.utime(folder / entry, (time, time))
        yield folder


def read(folder: Path, entries: list[str]) -> Any:
    found = Environment()
    with contextlib.ExitStack() as stack:
        stack.callback(os.chdir, Path.cwd())
        stack.enter_context(mock.patch("os.listdir", return_value=entries))
        scan_folder(found, str(folder))
    return json.dumps([found.distributions, found.problems])


@given(st.permutations(ENTRIES))
def test_the_order_of_a_folder_does_not_matter(folder: Path, entries: list[str]) -> None:
    assert read(folder, entries) == read(folder, ENTRIES)


HEADERS = ["Name: One", "Version: 1.0", "Summary: Name: x", "License: a\n  Version: 9", "X-Name: y"]


@given(st.permutations(HEADERS))
def test_the_order_of_headers_does_not_matter(folder: Path, headers: list[str]) -> None:
    metadata = folder / "Two_X-1.0.dist-info" / "METADATA"
    metadata.write_text("\n".join(headers) + "\n\nName: body\nVersion: 0\n")
    candidate = read_candidate(str(metadata.parent))
    assert (candidate.name, candidate.version) == ("one", "1.0")
    metadata.write_text("Name: Two_X\nVersion: 1.0\n")
