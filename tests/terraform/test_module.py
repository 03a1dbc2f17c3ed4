"""`terraform test` of the module for AWS, with a provider that answers from its schema."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.terraform.hcl import ROOT
from tests.terraform.program import make_terraform_with_aws

if TYPE_CHECKING:
    from pathlib import Path

MODULE = ROOT / "modules/aws"


@pytest.mark.subprocess
def test_the_modules_own_tests_pass(tmp_path: Path) -> None:
    shutil.copytree(MODULE, tmp_path / "module")
    terraform = make_terraform_with_aws(tmp_path / "module")
    terraform.run("init", "-no-color")
    with terraform.attach() as attached:
        done = attached.run("test", "-json", codes=(0, 1))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    runs = {
        record["test_run"]["run"]: record["test_run"]["status"]
        for record in records
        if record["type"] == "test_run" and record["test_run"]["progress"] == "complete"
    }
    assert {name for name, status in runs.items() if status != "pass"} == set(), done.stdout
    text = "".join(path.read_text("utf-8") for path in MODULE.glob("tests/*.tftest.hcl"))
    assert len(runs) == text.count('\nrun "') > 15
