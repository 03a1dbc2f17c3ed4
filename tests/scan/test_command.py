"""`envboot scan` as people and programs see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envboot.scan.schema import parse_scan
from envboot.scan.sizes import describe_sizes, measure
from tests.index import make_wheel
from tests.scan.environments import install, make_venv, run, scan_prefix, site_packages

pytestmark = pytest.mark.subprocess
ENVBOOT = Path(sys.executable).with_name("envboot")
SECRETS = ("s3cr3t-user", "s3cr3t-password", "s3cr3t-signature")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    prefix = make_venv(tmp_path / "venv")
    install(prefix, make_wheel(tmp_path, "one").path, make_wheel(tmp_path, "two-three").path)
    (site_packages(prefix) / "two_three-1.0.dist-info" / "direct_url.json").unlink()
    return prefix


def envboot(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ENVBOOT, "scan", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_table_says_what_is_there_and_where_it_is_from(prefix: Path, tmp_path: Path) -> None:
    (site_packages(prefix) / "two_three.py").write_text("patched")
    done = envboot("--python", prefix)
    found = scan_prefix(prefix)
    size, largest = describe_sizes(measure(found))
    assert done.returncode == 0
    assert done.stdout == (
        f"environment  {prefix} (venv)\n"
        f"python       {found.interpreter.version} "
        f"(cpython, {found.platform}, glibc {found.glibc})\n"
        "packages     2 distributions\n"
        f"size         {size}\n"
        f"largest      {largest}\n"
        "\n"
        "NAME       VERSION  FROM   NOTES\n"
        f"one        1.0      wheel  file://{tmp_path}/one-1.0-py3-none-any.whl\n"
        "two-three  1.0      pypi   record drifted\n"
    )
    assert done.stderr == ("warning: `two-three`: Changed since its installation: `two_three.py`\n")


def test_loose_code_is_shown_with_where_it_is_and_what_stays_here(
    prefix: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    for name in "abcdefg":
        (work / f"{name}.py").touch()
    done = envboot("--python", prefix, PYTHONPATH="/gone")
    assert done.stdout.endswith(
        f"\n\nLOOSE CODE  {'FROM':{len('current folder')}}  NAMES\n".replace(
            "LOOSE CODE", f"{'LOOSE CODE':{len(str(work))}}"
        )
        + f"{work}  current folder  a.py, b.py, c.py, d.py, e.py and 2 more\n"
    )
    assert done.stderr == "warning: `/gone`: Is on `PYTHONPATH`, but is gone\n"


def test_who_made_the_environment_is_said(tmp_path: Path) -> None:
    run(sys.executable, "-m", "virtualenv", "--no-periodic-update", tmp_path / "v")
    first = envboot("--python", tmp_path / "v").stdout.splitlines()[0]
    assert first == f"environment  {tmp_path / 'v'} (venv, virtualenv)"


def test_problems_that_distributions_share_are_said_once(prefix: Path) -> None:
    for record in site_packages(prefix).glob("*.dist-info/RECORD"):
        record.unlink()
    assert envboot("--python", prefix).stderr == (
        "warning: `one`, `two-three`: Has no RECORD: whether its files are intact cannot be told\n"
    )


def test_json_is_the_whole_document(prefix: Path) -> None:
    done = envboot("--python", prefix, "--json")
    assert done.stderr == ""
    assert parse_scan(done.stdout) == scan_prefix(prefix)


def test_sources_are_the_projects_that_this_machine_builds(prefix: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "one-1.0-py3-none-any.whl"
    table = envboot("--python", prefix, "--sources").stdout.splitlines()
    assert [line.split() for line in table] == [
        ["NAME", "VERSION", "SOURCE", "COMMIT", "SUBDIRECTORY"],
        ["one", "1.0", str(wheel)],
    ]
    document = json.loads(envboot("--python", prefix, "--sources", "--json").stdout)
    assert document == [{"name": "one", "version": "1.0", "path": str(wheel), "editable": False}]


def test_without_python_the_active_environment_is_scanned(prefix: Path) -> None:
    assert f"{prefix} (venv)" in envboot(VIRTUAL_ENV=str(prefix)).stdout
    assert f"{sys.prefix} (venv)" in envboot().stdout


def test_an_interpreter_that_is_not_there_ends_with_the_code_of_scan() -> None:
    done = envboot("--python", "/gone/python")
    assert (done.returncode, done.stdout) == (110, "")
    assert done.stderr == "error: Python `/gone/python` was not found\n"


def test_a_reader_that_leaves_early_is_no_error(prefix: Path) -> None:
    done = run("bash", "-c", f"'{ENVBOOT}' scan --python '{prefix}' --json 2>&1 | head -c 1")
    assert done == "{"


def test_no_planted_secret_is_ever_printed(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "venv")
    user, password, signature = SECRETS
    install(prefix, make_wheel(tmp_path, "one").path, make_wheel(tmp_path, "two").path)
    infos = {name: site_packages(prefix) / f"{name}-1.0.dist-info" for name in ("one", "two")}
    for name, kind in (("one", {"vcs_info": {"vcs": "bzr"}}), ("two", {"vcs_info": {"vcs": "hg"}})):
        url = f"https://{user}:{password}@host/t/x/{name}.tar.gz?X-Signature={signature}"
        (infos[name] / "direct_url.json").write_text(json.dumps({"url": url, **kind}))
    index = f"https://{user}:{password}@host/simple"
    (prefix / "pip.conf").write_text(f"[global]\nindex-url = {index}\n")
    for arguments in ([], ["--json"], ["--sources"], ["--sources", "--json"]):
        done = envboot("--python", prefix, *arguments, PIP_INDEX_URL=index, UV_INDEX=index)
        assert done.returncode == 0
        assert "--json" in arguments or "https://host/t/x/one.tar.gz" in done.stderr
        assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]


def test_a_scan_imports_nothing_heavy() -> None:
    code = "import sys, envboot.cli.commands.scan; print(*sys.modules)"
    heavy = {"boto3", "rattler", "rich", "packaging", "jinja2", "yaml", "urllib.request", "build"}
    assert heavy.isdisjoint(run(sys.executable, "-c", code).split())


def test_the_current_directory_s_own_environment_needs_no_activation(tmp_path: Path) -> None:
    make_venv(tmp_path / ".venv")

    def scan_there(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ENVBOOT, "scan", *words],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    first = f"environment  {tmp_path}/.venv (venv)"
    assert scan_there().stdout.splitlines()[0] == first
    other = scan_there(VIRTUAL_ENV=sys.prefix)
    assert other.stdout.splitlines()[0] == first
    assert f"`VIRTUAL_ENV` is `{sys.prefix}`: to take that one" in other.stderr
    assert scan_there("--python", ".venv", VIRTUAL_ENV=sys.prefix).stderr == ""
    assert "hint: Its own environment is `.venv`" in scan_there("--python", ".").stderr


def test_a_current_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = ["sh", "-c", 'rmdir ../gone && exec "$0" scan', str(ENVBOOT)]
    done = subprocess.run(words, cwd=gone, capture_output=True, text=True, check=False)
    assert done.returncode == 118
    assert done.stderr.startswith("error: The current folder is gone\n")
