"""Counts, columns, and what the file name of a conda package says."""

from __future__ import annotations

import json

import pytest

from envboot.conda_names import CondaName, parse_name
from envboot.documents import find_table
from envboot.manifest import CondaPackage
from envboot.text import columns, count, one_line, show_controls, show_in_json


def test_one_is_singular_and_none_is_plural() -> None:
    assert [count(number, "wheel") for number in (0, 1, 2)] == ["0 wheels", "1 wheel", "2 wheels"]
    assert count(2, "index", "indexes") == "2 indexes"


def test_one_endless_cell_pads_no_other_row() -> None:
    rows = columns([("NAME", "N"), ("x" * 9000, "1"), ("a", "2")])
    assert rows == ["NAME  N", f"{'x' * 9000}  1", "a     2"]


def test_columns_end_without_blanks() -> None:
    rows = [("NAME", "SIZE", "WHY"), ("a", "10", ""), ("longer", "9", "x")]
    assert columns(rows, right=(1,)) == ["NAME    SIZE  WHY", "a         10", "longer     9  x"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        (
            "\x1b]8;;http://evil.test\x07here\x1b]8;;\x07",
            r"\x1b]8;;http://evil.test\x07here\x1b]8;;\x07",
        ),
        ("\x9b2J \x7f \x08 \0", r"\x9b2J \x7f \x08 \x00"),
        ("user\u202egpj.exe\u2066", r"user\u202egpj.exe\u2066"),
        ("\udcff \u2028", r"\udcff \u2028"),
        ("100 %\r 99 %\r\n", "100 %\\r 99 %\r\n"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert show_controls(text) == shown
    assert show_controls(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\nc",
        "👩\u200d👩\u200d👧 ✈\ufe0f 🏴\U000e0067",
        "e\u0301 naïve 日本 שלום",
        r"C:\new\x1b",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert show_controls(text) == text


def test_a_name_is_one_line_and_forges_no_row() -> None:
    assert one_line("i-1\nhint: x\t\r\n") == r"i-1\nhint: x\t\r\n"
    assert columns([("A", "B"), ("x\ny", "1")]) == ["A     B", r"x\ny  1"]


def test_json_means_the_same_and_holds_nothing_that_is_obeyed() -> None:
    document = {"name": "\x1b[2J\x9b2J\x7f\u202e\ud800\u2028\r\n", "é": "日本"}
    shown = show_in_json(json.dumps(document, indent=2, ensure_ascii=False))
    assert shown == show_controls(shown)
    assert "日本" in shown
    assert json.loads(shown) == document


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
