"""The launches that a machine remembers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from envboot.fleet.history import KEPT, Record, read_records, write_record

if TYPE_CHECKING:
    from pathlib import Path


def write(state: Path, launch: str, seconds: float) -> None:
    write_record(state, Record(launch=launch, provisioner="local", store="file:///bucket"))
    os.utime(state / f"launches/{launch}.json", (seconds, seconds))


def test_of_two_launches_in_one_second_the_later_one_is_the_newest(tmp_path: Path) -> None:
    now = (tmp_path.stat()).st_mtime
    for launch, later in (("20260101-000000-ffff", 0.0), ("20260101-000000-0000", 0.2)):
        write(tmp_path, launch, now + later)
    assert [record.launch[-4:] for record in read_records(tmp_path)] == ["ffff", "0000"]


def test_what_is_long_over_or_no_record_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path, "old", tmp_path.stat().st_mtime - KEPT - 1)
    write(tmp_path, "new", tmp_path.stat().st_mtime)
    (tmp_path / "launches/other.json").write_text("{")
    assert [record.launch for record in read_records(tmp_path)] == ["new"]
