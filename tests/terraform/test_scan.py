"""The security scan, in an environment of its own: what it pins is not what we pin."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from envboot.indexes.program import find_uv
from tests.terraform.hcl import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CHECKOV = "checkov==3.3.30"


@pytest.mark.network
@pytest.mark.subprocess
def test_the_scan_finds_nothing_and_every_exception_has_its_reason(tmp_path: Path) -> None:
    words = [find_uv(), "tool", "run", "--quiet", "--from", CHECKOV, "checkov"]
    words += ["--framework", "terraform", "--skip-download", "--output", "json"]
    done = subprocess.run(
        [*words, "--directory", str(ROOT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["results"]["failed_checks"]
    assert report["summary"]["failed"] == report["summary"]["parsing_errors"] == 0
    # It looked at all of them.
    assert report["summary"]["passed"] > 100
    scanned = {check["file_path"] for check in report["results"]["passed_checks"]}
    folders = {"/".join(path.split("/")[1:3]) for path in scanned}
    assert folders >= {"modules/aws", "modules/gcp", "examples/aws-existing-bucket"}
    for check in report["results"].get("skipped_checks", ()):
        assert len(check["check_result"]["suppress_comment"]) > 20
