"""What activating a conda environment sets here is set for the command on the machines."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.agent.run import wrap
from envboot.layer.activation import UNSET, VARIABLES, render_activation
from envboot.lockfiles.environment_yml import read_variables
from envboot.scan.probe.conda import scan_activation
from envboot.scan.probe.found import Environment
from tests.layer.code import write
from tests.lock.documents import make_scan

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.schema import Scan


def conda_scan(prefix: Path, files: bytes = b"[]") -> Scan:
    found = Environment()
    found.files.append(files)
    scan_activation(found, str(prefix))
    assert found.problems == []
    scan = make_scan()
    return replace(
        scan,
        interpreter=replace(scan.interpreter, prefix=str(prefix)),
        variables=found.variables,
        activation=tuple(found.activation),
    )


def environment(prefix: Path) -> None:
    write(
        prefix,
        {
            "etc/conda/env_vars.d/b.json": json.dumps({"B": "package b", "SHARED": "b"}),
            "etc/conda/env_vars.d/a.json": json.dumps({"A": "it's", "SHARED": "a"}),
            "conda-meta/state": json.dumps(
                {"version": 1, "env_vars": {"B": "mine", "GONE": UNSET, "DATA": f"{prefix}/d"}}
            ),
            "etc/conda/activate.d/gdal.sh": "export GDAL=1\n",
            "etc/conda/activate.d/mine.sh": 'export SEEN="$B"\n',
        },
    )


@pytest.mark.subprocess
def test_variables_reach_the_command_in_condas_order_and_own_scripts_after_them(
    tmp_path: Path,
) -> None:
    environment(tmp_path / "here")
    listed = json.dumps(["etc/conda/activate.d/gdal.sh"]).encode()
    scan = conda_scan(tmp_path / "here", listed)
    files, notes = render_activation(scan, str(tmp_path / "there"))
    assert notes == ()
    assert set(files) == {VARIABLES, "etc/conda/activate.d/mine.sh"}, "packages bring their own"
    write(tmp_path / "there", dict(files.items()))
    names = ("A", "B", "SHARED", "DATA", "SEEN", "GONE", "GIVEN")
    show = "; ".join(f'echo "{name}=${{{name}-none}}"' for name in names)
    given = {"PATH": "/usr/bin:/bin", "GONE": "1", "SHARED": "given", "ENVBOOT_GIVEN": "X,SHARED"}
    done = subprocess.run(
        wrap(str(tmp_path / "there"), ["sh", "-c", show]),
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "A=it's",
        "B=mine",
        "SHARED=given",
        f"DATA={tmp_path}/there/d",
        "SEEN=mine",
        "GONE=none",
        "GIVEN=none",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "x"),
        ("HF_TOKEN", "x"),
        ("DB_PASSWORD", "x"),
        ("DATABASE", "postgres://me:pw@host/db"),
        ("MY_SECRET_FILE", "x"),
    ],
)
def test_what_looks_like_a_secret_is_named_and_not_sent(
    tmp_path: Path, name: str, value: str
) -> None:
    write(tmp_path, {"conda-meta/state": json.dumps({"env_vars": {name: value, "OK": "1"}})})
    files, (note,) = render_activation(conda_scan(tmp_path), "/p")
    assert value not in files[VARIABLES].decode().replace("export", "")
    assert (note.subject, f"--secret {name}" in note.message) == (name, True)


def test_an_own_script_with_a_secret_is_named_and_not_sent(tmp_path: Path) -> None:
    script = "# mine\nif true; then export AWS_SECRET_ACCESS_KEY=abc; fi\n"
    write(tmp_path, {"etc/conda/activate.d/mine.sh": script})
    files, (note,) = render_activation(conda_scan(tmp_path), "/p")
    assert files == {}
    assert "AWS_SECRET_ACCESS_KEY" in note.message


def test_an_environment_without_any_needs_no_file(tmp_path: Path) -> None:
    assert render_activation(conda_scan(tmp_path), "/p") == ({}, ())


def test_a_state_that_cannot_be_read_is_a_problem_by_its_path(tmp_path: Path) -> None:
    write(tmp_path, {"conda-meta/state": "[1]", "etc/conda/env_vars.d/a.json": "{"})
    found = Environment()
    scan_activation(found, str(tmp_path))
    assert len(found.problems) == 2


def test_environment_yml_has_variables_and_other_files_have_none(tmp_path: Path) -> None:
    text = "dependencies: [python]\nvariables:\n  MODEL: large\n  N: 3\n  EMPTY:\n"
    write(tmp_path, {"environment.yml": text, "other.yml": "variables: {A: 1}\n", "x.lock": text})
    assert read_variables(tmp_path / "environment.yml") == {"MODEL": "large", "N": "3"}
    assert read_variables(tmp_path / "other.yml") == {}
    assert read_variables(tmp_path / "x.lock") == {}
