"""The running interpreter scans itself, from a script or a notebook."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path

import pytest

from envboot.scan.here import split_path, standard_library
from envboot.scan.loose import PathEntry
from tests.scan.environments import make_venv, run, site_packages

ROOT = Path(__file__).parents[2]


def test_the_path_is_split_at_the_standard_library(tmp_path: Path) -> None:
    for name in ("first", "site", "last"):
        (tmp_path / name).mkdir()
    first, site, last = (tmp_path / name for name in ("first", "site", "last"))
    standard = sysconfig.get_paths()["stdlib"]
    assert Path(standard).resolve() in standard_library()
    path = ["", str(first), "/gone.zip", standard, f"{standard}/lib-dynload", str(site), "last"]
    known = [PathEntry(folder=site, origin="site")]
    assert split_path(path, tmp_path, known) == (
        [
            PathEntry(folder=tmp_path, origin="current"),
            PathEntry(folder=first, origin="pythonpath"),
        ],
        [PathEntry(folder=last, origin="pth")],
    )


@pytest.mark.subprocess
def test_one_call_scans_the_environment_that_runs_it_with_what_is_on_its_path(
    tmp_path: Path,
) -> None:
    prefix = make_venv(tmp_path / "venv")
    work = tmp_path / "work"
    for name in ("jobs/helper.py", "lib/tool.py", "more/extra.py"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    (work / "jobs/train.py").write_text(
        "import json, sys\n"
        "import envboot\n"
        "sys.path.insert(0, 'lib')\n"
        "sys.path.append('more')\n"
        "print(json.dumps(envboot.scan_here().to_dict()))\n"
    )
    # envboot's own code is on the path of this interpreter, and so loose there.
    (site_packages(prefix) / "envboot.pth").write_text(f"{ROOT / 'bootstrap'}\n")
    environment = {"PATH": os.environ["PATH"], "VIRTUAL_ENV": "/gone", "CONDA_PREFIX": "/gone"}
    command = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    printed = run(*command, prefix / "bin/python", "jobs/train.py", folder=work)
    document = json.loads(printed)
    assert document["interpreter"]["prefix"] == str(prefix)
    loose = [(each["folder"], each["origin"], each["names"]) for each in document["loose"]]
    assert loose[0] == (f"{work}/lib", "pythonpath", ["tool.py"])
    assert loose[1] == (f"{work}/jobs", "pythonpath", ["helper.py", "train.py"])
    assert loose[-1] == (f"{work}/more", "pth", ["extra.py"])


@pytest.mark.subprocess
def test_importing_envboot_imports_nothing_of_it() -> None:
    code = "import sys, envboot; print(*(name for name in sys.modules if 'envboot' in name))"
    loaded = set(run(sys.executable, "-c", code).split())
    assert {name for name in loaded if name.startswith("envboot")} == {"envboot"}
