"""The running interpreter is what a notebook brings: its environment, and what is on its path."""

from __future__ import annotations

import json
import sysconfig
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

# envboot is not installed in the user's environment here: its own path comes after the copy.
SCRIPT = f"""\
import json, os, site, sys
from pathlib import Path
sys.path.insert(0, "lib")
path = list(sys.path)
site.addsitedir({sysconfig.get_paths()["purelib"]!r})
from envboot.config import Settings
from envboot.errors import UsageError
from envboot.prepare import prepare
from envboot.selection import Selection
from envboot.session import open_session

def run(selection):
    return prepare(
        selection, open_session(Settings()), host_python=True, path=path,
    )

found, bare = run(Selection()), run(Selection(loose=False, only=("tiny-one",)))
try:
    run(Selection(python="/usr/bin/python3"))
except UsageError as error:
    refused = error.message
print(json.dumps({{
    "prefix": found.scan.interpreter.prefix,
    "wheels": [wheel.name for wheel in found.manifest.base.wheels],
    "projects": [project.name for project in found.manifest.layer.projects],
    "loose": [[f.loose.folder, f.loose.origin] for f in found.layer.code.folders],
    "rows": {{row.name: row.status for row in found.rows}},
    "bare": [[w.name for w in bare.manifest.base.wheels], bare.manifest.layer],
    "refused": refused,
}}))
"""


def test_prepare_takes_the_running_interpreter_and_the_folders_on_its_path(
    warm: Workspace,
) -> None:
    work = warm.folder / "notebooks"
    for name in ("lib/tool.py", "nb/helper.py"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    (work / "nb/train.py").write_text(SCRIPT)
    # Another environment is active, as where a kernel was started from somewhere else.
    words = ["env", "-C", str(work), str(warm.python / "bin/python"), "nb/train.py"]
    done = warm.run(*words, VIRTUAL_ENV="/gone", ENVBOOT_CACHE_DIR=str(work / "cache"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["prefix"] == str(warm.python)
    assert found["wheels"] == ["tiny-one", "tiny-two"]
    assert found["projects"] == ["mine"]
    # Of the editable project's folder the layer has what its wheel lacks, as in any scan.
    assert found["loose"] == [
        [f"{work}/lib", "pythonpath"],
        [f"{work}/nb", "pythonpath"],
        [f"{warm.folder}/projét", "pth"],
    ]
    assert found["rows"] == {"mine": "same", "tiny-one": "same", "tiny-two": "same"}
    assert found["bare"] == [["tiny-one"], None]
    assert found["refused"] == (
        "Cannot scan the running interpreter and `/usr/bin/python3` at once"
    )
