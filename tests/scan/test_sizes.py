"""How large an environment is, by what installers and conda have recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.scan.schema import Size
from envboot.scan.sizes import describe_sizes, measure
from tests.index import make_wheel
from tests.lock.documents import make_distribution, make_record, make_scan
from tests.scan.environments import install, make_venv, scan_prefix, site_packages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.subprocess
def test_a_wheel_is_as_large_as_its_files(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "venv")
    files = {"big/__init__.py": "#" * 3_000_000, "big/data 1.txt": "x" * 250}
    install(prefix, make_wheel(tmp_path, "big", files=files).path)
    (size,) = scan_prefix(prefix).sizes
    assert (size.name, size.source, size.packed) == ("big", "pypi", None)
    metadata = site_packages(prefix) / "big-1.0.dist-info"
    listed = sum(each.stat().st_size for each in metadata.iterdir() if each.name != "RECORD")
    assert size.disk == 3_000_250 + listed


def test_what_is_sent_is_counted_the_largest_first() -> None:
    scan = make_scan(
        make_distribution("here"),
        make_distribution("torch", conda="pytorch"),
        *(make_distribution(f"small{number}") for number in range(12)),
        conda=(make_record("pytorch"),),
    )
    sizes = (
        Size(name="here", source="pypi", disk=4_000_000),
        Size(name="gone", source="pypi", disk=10**9),
        Size(name="pytorch", source="conda", disk=5_000_000, packed=2_000_000),
        *(Size(name=f"small{number}", source="pypi", disk=100) for number in range(12)),
    )
    found = measure(replace(scan, sizes=sizes))
    assert (found["disk"], found["packed"]) == (9_001_200, 3_000_300)
    assert [each["name"] for each in found["largest"][:3]] == ["pytorch", "here", "small0"]
    assert len(found["largest"]) == 10
    text, largest = describe_sizes(found)
    assert text == "9.0 MB on disk, about 3.0 MB packed"
    assert largest.startswith("pytorch 5.0 MB, here 4.0 MB, small0 0.1 kB")
