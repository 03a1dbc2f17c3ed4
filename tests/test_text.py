"""Counts, columns, and what the file name of a conda package says."""

from __future__ import annotations

import pytest

from envboot.conda_names import CondaName, parse_name
from envboot.documents import find_table
from envboot.manifest import CondaPackage
from envboot.text import columns, count


def test_one_is_singular_and_none_is_plural() -> None:
    assert [count(number, "wheel") for number in (0, 1, 2)] == ["0 wheels", "1 wheel", "2 wheels"]
    assert count(2, "index", "indexes") == "2 indexes"


def test_columns_end_without_blanks() -> None:
    rows = [("NAME", "SIZE", "WHY"), ("a", "10", ""), ("longer", "9", "x")]
    assert columns(rows, right=(1,)) == ["NAME    SIZE  WHY", "a         10", "longer     9  x"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://c.test/noarch/my-tool-1.0-py_0.conda", ("my-tool", "1.0", "py_0")),
        ("file:///c/linux-64/a-1%211.0-h1_0.tar.bz2", ("a", "1!1.0", "h1_0")),
        ("a-1.0-0.conda", ("a", "1.0", "0")),
        ("https://c.test/noarch/a-1.0.conda", None),
        ("https://c.test/noarch/a-1.0-0.whl", None),
    ],
)
def test_a_conda_package_is_named_by_its_file(url: str, found: tuple[str, str, str] | None) -> None:
    assert parse_name(url) == (found and CondaName(*found))


def test_an_odd_file_is_all_name() -> None:
    package = CondaPackage(url="https://c.test/x/linux-64/odd.zip", md5="0" * 32)
    assert package.named == CondaName(name="odd.zip", version="", build="")
    assert (package.file, package.channel) == ("odd.zip", "https://c.test/x")


def test_a_table_that_is_none_is_empty() -> None:
    assert find_table({"tool": {"uv": {"a": 1}}}, "tool", "uv") == {"a": 1}
    assert find_table({"tool": 1}, "tool", "uv") == {}
    assert find_table(None) == {}
