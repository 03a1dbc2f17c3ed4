"""`terraform fmt` has nothing to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.terraform.hcl import ROOT
from tests.terraform.program import make_terraform

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.subprocess
def test_everything_is_formatted(tmp_path: Path) -> None:
    words = ("fmt", "-check", "-recursive", "-diff", str(ROOT))
    done = make_terraform(tmp_path).run(*words, codes=(0, 3))
    assert done.stdout == ""
