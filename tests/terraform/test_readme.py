"""READMEs of modules and examples say what the code says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.terraform.hcl import FOLDERS, read_folder
from tests.terraform.readme import replace_tables

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_tables_are_those_of_the_code(path: Path, request: pytest.FixtureRequest) -> None:
    readme = path / "README.md"
    text = readme.read_text("utf-8")
    made = replace_tables(text, read_folder(path))
    if request.config.getoption("--update-golden"):
        readme.write_text(made, "utf-8")
    else:
        assert text == made, "run `pytest --update-golden tests/terraform`"
