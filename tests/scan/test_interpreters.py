"""Which interpreter is scanned, and what is said when there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from envboot.errors import ScanError
from envboot.scan import scan
from envboot.scan.discovery import find_python
from tests.scan.environments import find_pythons, make_venv, scan_prefix, site_packages

PATH = {"PATH": os.environ["PATH"]}
HERE = Path.cwd()


def write_program(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_active_environment_is_scanned_a_virtual_one_before_conda(tmp_path: Path) -> None:
    virtual = write_program(tmp_path / "venv" / "bin" / "python", "")
    conda = write_program(tmp_path / "conda" / "bin" / "python", "")
    active = {"VIRTUAL_ENV": str(tmp_path / "venv"), "CONDA_PREFIX": str(tmp_path / "conda")}
    for seen, python in (
        (active, virtual),
        ({**active, "VIRTUAL_ENV": ""}, conda),
        ({}, Path(sys.executable)),
    ):
        assert find_python(None, seen, tmp_path).executable == str(python)


def test_an_interpreter_is_named_by_folder_path_or_name(
    tmp_path: Path,
) -> None:
    program = write_program(tmp_path / "my env" / "bin" / "python", "")
    active = {"VIRTUAL_ENV": "/elsewhere", "PATH": str(program.parent)}
    assert find_python("my env", active, tmp_path).executable == str(program)
    assert find_python("my env/bin/python", active, tmp_path).executable == str(program)
    assert find_python("python", active, tmp_path).executable == str(program)
    for seen in ({"PATH": "my env/bin"}, {"VIRTUAL_ENV": "my env"}):
        name = "python" if "PATH" in seen else None
        assert find_python(name, seen, tmp_path).executable == str(program)


def test_an_active_environment_that_is_gone_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"`/gone` \(`VIRTUAL_ENV`\) was not found"):
        find_python(None, {"VIRTUAL_ENV": "/gone"}, tmp_path)
    with pytest.raises(ScanError, match="has no `bin/python`"):
        find_python(str(tmp_path), {}, HERE)


@pytest.mark.parametrize("python", ["/gone/python", "no-such-python", "~/gone/python"])
def test_an_interpreter_that_is_not_there_is_named(python: str) -> None:
    with pytest.raises(ScanError, match=f"`{python}` was not found"):
        find_python(python, PATH, HERE)


@pytest.mark.subprocess
def test_an_environment_whose_interpreter_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/gone/python3")
    with pytest.raises(ScanError, match="leads to a Python that is gone"):
        scan(str(tmp_path), environment=PATH, folder=HERE)


@pytest.mark.subprocess
def test_a_file_that_is_not_executable_says_so(tmp_path: Path) -> None:
    program = write_program(tmp_path / "python", "#!/bin/sh\n", mode=0o644)
    with pytest.raises(ScanError, match="is not executable"):
        scan(str(program), environment=PATH, folder=HERE)


@pytest.mark.subprocess
@pytest.mark.parametrize("text", ["no program", "#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 3\n"])
def test_a_program_that_is_not_python_says_so(text: str, tmp_path: Path) -> None:
    program = write_program(tmp_path / "python", text)
    with pytest.raises(ScanError, match=f"`{program}` is not a Python interpreter"):
        scan(str(program), environment=PATH, folder=HERE)


@pytest.mark.subprocess
def test_a_python_that_its_own_environment_stops_says_so(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "venv")
    (site_packages(prefix) / "odd.pth").write_bytes(b"\xff\xfe\n")
    (site_packages(prefix) / "exits.pth").write_text("import os; os._exit(3)\n")
    with pytest.raises(ScanError, match="does not start") as caught:
        scan_prefix(prefix)
    assert ".pth" in (caught.value.hint or "")


@pytest.mark.subprocess
def test_an_old_python_is_refused_with_both_versions(tmp_path: Path) -> None:
    # The words of an old interpreter: a syntax error, and its version when asked.
    text = '#!/bin/sh\ncase "$1" in -c) printf 3.6;; *) echo SyntaxError >&2; exit 1;; esac\n'
    program = write_program(tmp_path / "python", text)
    with pytest.raises(ScanError, match=r"Expected Python 3\.8 or later, found 3\.6 at"):
        scan(str(program), environment=PATH, folder=HERE)


@pytest.mark.subprocess
@pytest.mark.parametrize("python", find_pythons(6, 7))
def test_a_real_old_python_is_refused(python: str) -> None:
    with pytest.raises(ScanError, match=r"Expected Python 3\.8 or later, found 3\.[67] at"):
        scan(python, environment=PATH, folder=HERE)


@pytest.mark.subprocess
def test_a_probe_that_fails_has_its_last_words_as_causes(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "venv")
    (site_packages(prefix) / "break.pth").write_text("import sys; sys.modules['json'] = None\n")
    with pytest.raises(ScanError, match="Failed to scan") as caught:
        scan_prefix(prefix)
    assert "import of json halted" in caught.value.causes[-1]
