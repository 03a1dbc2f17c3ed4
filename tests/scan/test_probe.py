"""The probe, in real environments of every Python that is here."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from envboot.scan.running import PROBE
from envboot.scan.schema import Loose
from tests.index import make_wheel
from tests.scan.environments import (
    complaints,
    find,
    find_pythons,
    install,
    make_venv,
    run,
    scan_prefix,
    site_packages,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.subprocess


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A venv with the distribution `one`."""
    prefix = make_venv(tmp_path / "venv")
    install(prefix, make_wheel(tmp_path, "one").path)
    return prefix


def test_the_probe_is_python_3_8() -> None:
    for path in PROBE.parent.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
    vermin = Path(sys.executable).with_name("vermin")
    run(vermin, "--target=3.8-", "--violations", PROBE.parent)


def test_the_probe_imports_nothing_that_takes_long() -> None:
    # Without site-packages: what an environment imports as it starts is its own affair.
    command = [sys.executable, "-S", "-X", "importtime", str(PROBE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"json", "probe.conda"} <= modules
    assert {"typing", "envboot", "importlib.metadata", "email", "subprocess"}.isdisjoint(modules)


@pytest.mark.parametrize("python", find_pythons(*range(8, 15)))
def test_every_python_is_described_with_what_is_installed_in_it(
    python: str, tmp_path: Path
) -> None:
    prefix = make_venv(tmp_path / "venv", python)
    install(prefix, make_wheel(tmp_path, "One_more.Thing", "2.0").path)
    found = scan_prefix(prefix)
    facts = "import sys, os; print(*sys.version_info[:3], sep='.');"
    facts += (
        "print(os.path.realpath(sys.executable), sys.base_prefix, sys.implementation.cache_tag)"
    )
    version, base, base_prefix, tag = run(python, "-c", facts).split()
    interpreter = found.interpreter
    assert found.kind == "venv"
    assert interpreter.version == version
    assert interpreter.implementation == "cpython"
    assert interpreter.executable == str(prefix / "bin" / "python")
    assert interpreter.base_executable == base
    assert (interpreter.prefix, interpreter.base_prefix) == (str(prefix), base_prefix)
    assert interpreter.tag == tag
    assert interpreter.purelib == interpreter.platlib == str(site_packages(prefix))
    item = find(found, "one-more-thing")
    assert item.version == "2.0"
    assert item.installer == "uv"
    assert item.tags == ("py3-none-any",)
    assert item.record == "ok"
    assert item.location == str(site_packages(prefix))
    assert found.problems == ()


def test_the_platform_is_named_as_conda_names_it(prefix: Path) -> None:
    found = scan_prefix(prefix)
    assert found.platform == {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[os.uname().machine]
    libc = os.confstr("CS_GNU_LIBC_VERSION")
    assert libc == f"glibc {found.glibc}"


def by_venv(folder: Path) -> None:
    run(sys.executable, "-m", "venv", folder)


def by_virtualenv(folder: Path) -> None:
    run(sys.executable, "-m", "virtualenv", "--no-periodic-update", folder)


def by_uv(folder: Path) -> None:
    run(find_uv_bin(), "venv", "-q", "--offline", "--python", sys.executable, folder)


def by_copying(folder: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "--copies", folder)


@pytest.mark.parametrize("make", [by_venv, by_virtualenv, by_uv, by_copying])
def test_every_maker_of_virtual_environments_is_known(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    prefix = tmp_path / "a földer" / "my venv"
    make(prefix)
    wheel = make_wheel(tmp_path, "one").path
    if make in (by_venv, by_virtualenv):
        run(prefix / "bin" / "python", "-m", "pip", "install", "-q", "--no-index", wheel)
    else:
        install(prefix, wheel)
    found = scan_prefix(prefix)
    assert found.kind == "venv"
    assert found.interpreter.prefix == str(prefix)
    assert not found.interpreter.base_executable.startswith(str(prefix))
    assert os.access(found.interpreter.base_executable, os.X_OK)
    assert find(found, "one").installer == ("pip" if make in (by_venv, by_virtualenv) else "uv")
    assert find(found, "one").record == "ok"


def test_paths_arrive_whole_whatever_the_locale(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "Ünïcode 環境")
    for variables in ({"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}):
        assert scan_prefix(prefix, **variables).interpreter.prefix == str(prefix)


def test_the_probe_prints_ascii_only(tmp_path: Path) -> None:
    prefix = make_venv(tmp_path / "Ünïcode 環境")
    done = subprocess.run(
        [prefix / "bin" / "python", PROBE], capture_output=True, check=True, env={"LC_ALL": "C"}
    )
    assert done.stdout.isascii()


def test_a_stray_egg_info_in_the_working_folder_is_not_installed(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = tmp_path / "project" / "stray.egg-info"
    stray.mkdir(parents=True)
    (stray / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1\n")
    monkeypatch.chdir(stray.parent)
    assert [item.name for item in scan_prefix(prefix).distributions] == ["one"]
    assert [
        item.name for item in scan_prefix(prefix, PYTHONPATH=str(stray.parent)).distributions
    ] == ["one"]


def test_an_editable_projects_own_egg_info_is_not_a_second_distribution(
    prefix: Path, tmp_path: Path
) -> None:
    stray = tmp_path / "project" / "stray.egg-info"
    stray.mkdir(parents=True)
    (stray / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1\n")
    (site_packages(prefix) / "stray.pth").write_text(f"{stray.parent}\n")
    assert [item.name for item in scan_prefix(prefix).distributions] == ["one"]


def test_modules_of_the_working_folder_and_pythonpath_do_not_reach_the_probe(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    found = scan_prefix(prefix, PYTHONPATH=str(tmp_path), PYTHONHOME="/nowhere")
    assert find(found, "one").record == "ok"
    assert found.loose == (Loose(folder=str(tmp_path), origin="pythonpath", names=("json.py",)),)


def test_code_in_folders_that_pth_files_add_and_in_site_packages_itself_is_loose(
    prefix: Path, tmp_path: Path
) -> None:
    loose = tmp_path / "loose code"
    loose.mkdir()
    (loose / "mine.py").touch()
    (site_packages(prefix) / "mine.pth").write_text(f"{loose}\n")
    (site_packages(prefix) / "stray.py").touch()
    found = scan_prefix(prefix)
    assert found.loose == (
        Loose(folder=str(site_packages(prefix)), origin="site", names=("stray.py",)),
        Loose(folder=str(loose), origin="pth", names=("mine.py",)),
    )
    assert found.problems == ()


def test_an_archive_on_the_path_is_reported(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "code.zip").touch()
    (site_packages(prefix) / "mine.pth").write_text(f"{tmp_path}/code.zip\n")
    (complaint,) = complaints(scan_prefix(prefix), f"{tmp_path}/code.zip")
    assert complaint.startswith("Is an archive on the path")


def test_start_up_files_that_print_do_not_disturb_the_document(prefix: Path) -> None:
    noise = "import sys, atexit; print('hello'); atexit.register(print, 'bye {')\n"
    (site_packages(prefix) / "noise.pth").write_text(noise)
    assert find(scan_prefix(prefix), "one").record == "ok"


def test_of_two_folders_on_the_path_the_first_one_wins(prefix: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    run(sys.executable, "-m", "venv", "--without-pip", inner)
    install(inner, make_wheel(tmp_path, "one", "2.0").path, make_wheel(tmp_path, "two").path)
    (site_packages(prefix) / "more.pth").write_text(f"{site_packages(inner)}\n")
    found = scan_prefix(prefix)
    assert (find(found, "one").version, find(found, "two").version) == ("1.0", "1.0")
    assert find(found, "two").location == str(site_packages(inner))


def test_code_that_changed_after_installation_is_reported(prefix: Path) -> None:
    module = site_packages(prefix) / "one.py"
    module.write_text(module.read_text() + "# patched\n")
    found = scan_prefix(prefix)
    assert find(found, "one").record == "drifted"
    assert complaints(found, "one") == ["Changed since its installation: `one.py`"]


def test_code_that_is_gone_is_reported(prefix: Path) -> None:
    (site_packages(prefix) / "one.py").unlink()
    assert find(scan_prefix(prefix), "one").record == "drifted"


def test_a_distribution_without_record_is_reported(prefix: Path) -> None:
    (site_packages(prefix) / "one-1.0.dist-info" / "RECORD").unlink()
    found = scan_prefix(prefix)
    assert find(found, "one").record == "missing"
    assert len(complaints(found, "one")) == 1


@pytest.mark.parametrize(("installed", "stale"), [("1.0", "3.0"), ("3.0", "1.0")])
def test_of_two_versions_the_one_whose_record_agrees_with_the_disk_is_installed(
    installed: str, stale: str, tmp_path: Path
) -> None:
    prefix = make_venv(tmp_path / "venv")
    install(prefix, make_wheel(tmp_path, "one", stale, text="VALUE = 'another size'\n").path)
    left = site_packages(prefix) / f"one-{stale}.dist-info"
    shutil.copytree(left, tmp_path / "left")
    install(prefix, make_wheel(tmp_path, "one", installed).path)
    shutil.copytree(tmp_path / "left", left)
    found = scan_prefix(prefix)
    assert find(found, "one").version == installed
    assert find(found, "one").record == "ok"
    (complaint,) = complaints(found, "one")
    assert stale in complaint


def spoil_metadata(folder: Path) -> None:
    (folder / "METADATA").write_bytes(b"\xff\xfe garbage")


def spoil_headers(folder: Path) -> None:
    (folder / "METADATA").write_text("Metadata-Version: 2.1\n\nName: one\nVersion: 1.0\n")


def spoil_by_folder(folder: Path) -> None:
    (folder / "METADATA").unlink()
    (folder / "METADATA").mkdir()


def spoil_name(folder: Path) -> None:
    (folder / "METADATA").write_text("Name: _private_\nVersion: 1.0\n")


def spoil_name_by_blank(folder: Path) -> None:
    (folder / "METADATA").write_text("Name: my pkg\nVersion: 1.0\n")


def spoil_name_by_letters(folder: Path) -> None:
    (folder / "METADATA").write_text("Name: näme\nVersion: 1.0\n", "utf-8")


def spoil_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def spoil_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_metadata,
        spoil_headers,
        spoil_by_folder,
        spoil_folder,
        spoil_link,
        spoil_name,
        spoil_name_by_blank,
        spoil_name_by_letters,
    ],
)
def test_one_bad_distribution_is_a_problem_and_the_others_are_found(
    spoil: Callable[[Path], None], prefix: Path, tmp_path: Path
) -> None:
    install(prefix, make_wheel(tmp_path, "two").path)
    bad = site_packages(prefix) / "one-1.0.dist-info"
    spoil(bad)
    found = scan_prefix(prefix)
    assert [item.name for item in found.distributions] == ["two"]
    assert len(complaints(found, str(bad))) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"url": 1}', '{"url": "file:///x", "vcs_info": 1}'])
def test_a_malformed_direct_url_is_a_problem(text: str, prefix: Path) -> None:
    (site_packages(prefix) / "one-1.0.dist-info" / "direct_url.json").write_text(text)
    found = scan_prefix(prefix)
    assert find(found, "one").direct_url is None
    assert len(complaints(found, "one")) == 1


def test_files_of_any_bytes_never_end_the_scan(prefix: Path) -> None:
    for name in ("INSTALLER", "WHEEL", "RECORD", "direct_url.json"):
        (site_packages(prefix) / "one-1.0.dist-info" / name).write_bytes(bytes(range(256)))
    (site_packages(prefix) / "broken.egg-link").write_bytes(b"\xff\x00")
    assert find(scan_prefix(prefix), "one").version == "1.0"


def test_what_pip_left_half_removed_is_not_installed(prefix: Path) -> None:
    folder = site_packages(prefix)
    (folder / "one-1.0.dist-info").rename(folder / "~ne-1.0.dist-info")
    assert scan_prefix(prefix).distributions == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_any_user_can_run_the_probe() -> None:
    system = Path("/usr/bin/python3")
    if not system.exists():
        pytest.skip("needs /usr/bin/python3")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        probe = shutil.copytree(PROBE.parent, Path(folder, "probe")) / PROBE.name
        done = subprocess.run(
            [system, probe], user=65534, group=65534, env={}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('{"scan_version"')
