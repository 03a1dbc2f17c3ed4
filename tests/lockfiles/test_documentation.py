"""The reference names every format that is read, and every one that is written."""

from __future__ import annotations

from envboot.lockfiles.formats import Format
from envboot.lockfiles.writers import Export
from tests.docs.pages import REFERENCE, read_rows, read_section


def test_the_formats_are_those_of_the_code() -> None:
    read, _, written = read_section(REFERENCE, "Lock files").partition("`envboot export`")
    assert set(read_rows(read)) == {kind.value for kind in Format}
    assert set(read_rows(written)) - {"--format"} == {kind.value for kind in Export}
