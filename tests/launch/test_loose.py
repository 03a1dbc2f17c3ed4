"""Code that belongs to no package, and files that the command names, on an instance."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.launch.workspace import Workspace, write_value
from tests.scan.environments import find_pythons, make_venv

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

TRAIN = """\
import sys
from importlib.resources import files

import beside, further, tool, mine

print(files(tool).joinpath("data", "täble.csv").read_text(), end="")
print(tool.NAME, beside.NAME, further.NAME, mine.VALUE)
for name in sys.argv[1:]:
    with open(name) as stream:
        print(stream.read(), end="")
"""
JOB = "import beside, helper\nprint(helper.NAME, beside.NAME)\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)


class Client:
    """A user in a folder of code, with another on PYTHONPATH and a third that a `.pth` names."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.app = workspace.folder / "code" / "my äpp"
        self.variables = {"PYTHONPATH": str(workspace.folder / "other" / "my äpp")}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in that folder."""
        done = self.workspace.run("env", "-C", str(self.app), *words, **self.variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def launch(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Launch from that folder."""
        return self.run(*self.workspace.command(*words))


@pytest.fixture(scope="module")
def client(_warm: Workspace) -> Iterator[Client]:
    write_value(_warm.folder, 1)
    made = Client(_warm)
    write(
        made.app,
        {
            "train.py": TRAIN,
            "tool/__init__.py": "NAME = 'tool of the folder'\n",
            "tool/data/täble.csv": "a,b\n",
            "scripts/job.py": JOB,
            "scripts/helper.py": "NAME = 'helper'\n",
            "run.sh": '#!/bin/sh\necho "run $(cat "$1")"\n',
            "config.yaml": "rate: 1\n",
            "data/a.csv": "1\n",
            "unused.json": "{}\n",
            "pyproject.toml": '[tool.envboot]\ninclude = ["data/"]\n',
        },
    )
    write(
        _warm.folder,
        {
            "other/my äpp/beside.py": "NAME = 'beside'\n",
            "other/my äpp/tool.py": "NAME = 'tool of PYTHONPATH'\n",
            "third/further.py": "NAME = 'further'\n",
            "third/tool.py": "NAME = 'tool of .pth'\n",
        },
    )
    (site,) = (_warm.python / "lib").glob("python3*/site-packages")
    (site / "third.pth").write_text(f"{_warm.folder / 'third'}\n")
    yield made
    (site / "third.pth").unlink()


def test_a_script_finds_all_that_it_finds_on_the_client(client: Client) -> None:
    words = ("train.py", "config.yaml")
    here = client.run(str(client.workspace.python / "bin" / "python"), *words)
    assert here.stdout == "a,b\ntool of the folder beside further 1\nrate: 1\n"
    assert client.launch("--", "python", *words).stdout == here.stdout


def test_a_script_in_a_subfolder_finds_its_neighbours(client: Client) -> None:
    done = client.launch("--", "python", "scripts/job.py")
    assert done.stdout == "helper beside\n"


def test_with_a_lock_file_the_code_of_the_folder_goes_and_that_of_the_environment_stays(
    client: Client,
) -> None:
    (client.app / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "a test"\npackages = []\n'
    )
    words = ("--from", "pylock.toml", "--", "python")
    assert client.launch(*words, "scripts/job.py").stdout == "helper beside\n"
    program = "from importlib.util import find_spec as f; print(f('tool'), f('further'))"
    seen = client.launch(*words, "-c", program).stdout
    assert seen.startswith("ModuleSpec(")
    assert seen.endswith(" None\n")


def test_a_program_of_the_folder_runs_and_other_users_can_read_it(client: Client) -> None:
    assert client.launch("--", "./run.sh", "config.yaml").stdout == "run rate: 1\n"
    program = "import os, sys; print(*(oct(os.stat(p).st_mode)[-3:] for p in sys.argv[1:]))"
    done = client.launch("--", "python", "-c", program, "config.yaml", "run.sh")
    assert done.stdout == "644 755\n"


def test_what_is_not_sent_is_named_before_the_machines_start(client: Client) -> None:
    program = "import sys; print(sys.argv[1:])"
    done = client.launch("--no-loose", "--", "python", "-c", program, "config.yaml")
    assert done.stdout == "['config.yaml']\n"
    warning = "`config.yaml`: Not sent, though the command names it"
    assert warning in done.stderr
    assert done.stderr.index(warning) < done.stderr.index("starting")


def test_a_script_or_module_that_is_not_sent_is_refused_before_anything_starts(
    client: Client,
) -> None:
    for words in (["python", "missing.py"], ["./missing.sh"], ["python", "-m", "nomodule"]):
        command = client.workspace.command("--", *words)
        done = client.workspace.run("env", "-C", str(client.app), *command, **client.variables)
        assert done.returncode == 118, done.stderr
        assert "will not be on the machines" in done.stderr
        assert "starting" not in done.stderr


def test_relative_paths_lead_where_they_lead_here_and_the_directory_is_the_commands_own(
    client: Client,
) -> None:
    program = "import sys, pathlib as p; print(p.Path('data/a.csv').read_text(), sys.argv[1:]); "
    program += "p.Path('data', 'made').write_text('x'); p.Path('data/a.csv').write_text('x')"
    words = ("python", "-c", program, "data", f"{client.app}/config.yaml")
    done = client.launch("--no-output", "--", *words)
    assert done.stdout == "1\n ['data', 'config.yaml']\n"
    assert not (client.app / "data/made").exists()
    assert "code): `run.sh`, `unused.json`; name it in the command" in done.stderr


def test_the_lock_says_how_much_code_travels(client: Client) -> None:
    envboot = client.workspace.command()[0]
    python = str(client.workspace.python)
    done = client.run(envboot, "lock", "--host-python", "--python", python, "-o", os.devnull)
    assert re.search(r"loose code: \d+ files, \d+\.\d kB\n", done.stderr)


@pytest.mark.parametrize("python", find_pythons(8))
def test_an_environment_of_the_oldest_python_that_is_scanned_arrives(
    python: str, warm: Workspace, tmp_path: Path
) -> None:
    old = replace(warm, python=make_venv(tmp_path / "venv", python))
    module = tmp_path / "code" / "loosely.py"
    module.parent.mkdir()
    module.write_text("import sys\nprint(sys.version_info[:2], __cached__.rpartition('/')[2])\n")
    found = old.launch_json("--", "python", "-c", "import loosely", PYTHONPATH=str(module.parent))
    (instance,) = found["instances"]
    assert instance["outcome"] == "ready"
    assert instance["output"].strip() == "(3, 8) loosely.cpython-38.pyc"
