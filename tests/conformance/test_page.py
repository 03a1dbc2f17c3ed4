"""docs/compatibility.md says what the suite saw, no more and no less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.compare import compare
from tests.conformance.managers import MANAGERS
from tests.conformance.page import PAGE, ROOT, TESTS, read_rows, render

if TYPE_CHECKING:
    from tests.conformance.page import Rows


def test_what_arrived_in_this_run_stands_on_the_page(
    rows: Rows, request: pytest.FixtureRequest
) -> None:
    written = read_rows(PAGE.read_text("utf-8")) if PAGE.exists() else {name: {} for name in rows}
    merged = {name: {**written[name], **found} for name, found in rows.items()}
    merged["managers"] = {
        name: merged["managers"][name] for name in MANAGERS if name in merged["managers"]
    }
    if request.config.getoption("--update-golden"):
        PAGE.write_text(render(merged), "utf-8")
        return
    for name, found in rows.items():
        assert found.keys() <= written[name].keys()
    # Tools have newer versions every week; what the scan makes of them may not change unseen.
    for manager, (said, _) in rows["managers"].items():
        assert said == written["managers"][manager][0]


def test_the_page_is_what_the_suite_writes() -> None:
    text = PAGE.read_text("utf-8")
    rows = read_rows(text)
    assert render(rows) == text, "run pytest --update-golden tests/conformance"
    assert list(rows["managers"]) == list(MANAGERS)


@pytest.mark.parametrize("test", TESTS)
def test_every_statement_has_its_test(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text("utf-8")


def test_any_other_difference_fails() -> None:
    plain = {
        "python": "3.11",
        "modules": {"a": "imported", "b": "ImportError"},
        "versions": {"a": "1.0"},
        "entry_points": [["console_scripts", "a", "a:main"], ["plugins", "p", "a:p"]],
        "files": {"bin/a": "1", "bin/b": "1", "site/a.py": "1", "share/a.bin": "1"},
    }
    changed = {
        "python": "3.12",
        "modules": {"a": "ImportError", "c": "imported"},
        "versions": {"a": "1.1"},
        "entry_points": [["console_scripts", "a", "a:main"], ["plugins", "q", "a:p"]],
        "files": {"bin/a": "2", "bin/b": "2", "site/a.py": "2", "site/a/new.txt": "1"},
    }
    assert compare(plain, plain) == []
    assert compare(plain, changed) == [
        "entry point: plugins/p/a:p is missing",
        "entry point: plugins/q/a:p is new",
        "files: bin/b differs",
        "files: share/a.bin is missing",
        "files: site/a.py differs",
        "files: site/a/new.txt is new",
        "modules: a differs",
        "modules: b is missing",
        "modules: c is new",
        "python: 3.11 became 3.12",
        "versions: a differs",
    ]
