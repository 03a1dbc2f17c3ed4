"""What Terraform itself can say of the module for Google Cloud without its provider."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.terraform.hcl import ROOT
from tests.terraform.program import make_terraform

MODULE = ROOT / "modules/gcp"


@pytest.mark.subprocess
def test_variables_and_metadata_are_evaluated(tmp_path: Path) -> None:
    shutil.copy(MODULE / "variables.tf", tmp_path)
    found = re.search(
        r"^locals \{\n.*?^\}\n", (MODULE / "main.tf").read_text(), re.DOTALL | re.MULTILINE
    )
    assert found
    output = 'output "metadata" {\n  value = local.metadata\n}\n'
    (tmp_path / "main.tf").write_text(found[0] + output)
    tests = Path(__file__).with_name("gcp.tftest.hcl")
    shutil.copy(tests, tmp_path)
    terraform = make_terraform(tmp_path)
    terraform.run("init", "-no-color")
    done = terraform.run("test", "-no-color", codes=(0, 1))
    runs = tests.read_text().count('\nrun "')
    assert f"{runs} passed, 0 failed" in done.stdout, done.stdout
