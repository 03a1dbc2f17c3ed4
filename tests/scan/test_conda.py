"""Conda prefixes: one that rattler made, and records written by hand for the odd cases."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from envboot.indexes.program import find_uv
from envboot.scan.probe.conda import scan_conda
from envboot.scan.probe.distributions import scan_folder
from envboot.scan.probe.found import Environment
from tests.channel import NUMPY, TABULATE, ensure_channel, explicit_list
from tests.index import make_wheel
from tests.scan.environments import complaints, find, install, run, scan_prefix

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("python", "numpy", "native-tool", "tabulate")
SITE = "lib/python3.11/site-packages"


def write_record(prefix: Path, name: str, **members: Any) -> None:
    record = {
        "name": name, "version": "1.0", "build": "py_0", "channel": "https://conda.example/forge",
        "subdir": "noarch", "fn": f"{name}-1.0-py_0.conda", "files": [], **members,
    }  # fmt: skip
    folder = prefix / "conda-meta"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-1.0-py_0.json").write_text(json.dumps(record))


def write_distribution(prefix: Path, name: str, version: str = "1.0", **files: str) -> str:
    entry = f"{SITE}/{name}-{version}.dist-info"
    (prefix / entry).mkdir(parents=True)
    files = {"METADATA": f"Name: {name}\nVersion: {version}\n", "RECORD": "", **files}
    for file, text in files.items():
        (prefix / entry / file).write_text(text)
    return entry


def read(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Read a prefix by hand-made records, here: nothing in it runs."""
    monkeypatch.chdir(prefix)  # The probe changes its folder; this brings us back.
    (prefix / SITE).mkdir(parents=True, exist_ok=True)
    found = Environment()
    scan_conda(found, str(prefix))
    scan_folder(found, str(prefix / SITE))
    return found


def test_a_record_keeps_what_identifies_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "one", url="https://conda.example/forge/noarch/one-1.0-py_0.conda",
                 sha256="a" * 64, md5="b" * 32, noarch="python", license="MIT")  # fmt: skip
    assert read(tmp_path, monkeypatch).conda == [
        {
            "name": "one",
            "version": "1.0",
            "build": "py_0",
            "channel": "https://conda.example/forge",
            "subdir": "noarch",
            "url": "https://conda.example/forge/noarch/one-1.0-py_0.conda",
            "sha256": "a" * 64,
            "md5": "b" * 32,
            "noarch": "python",
        }
    ]


def test_a_record_without_url_gets_it_from_its_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "one")
    (record,) = read(tmp_path, monkeypatch).conda
    assert record["url"] == "https://conda.example/forge/noarch/one-1.0-py_0.conda"


def test_one_bad_record_is_a_problem_and_the_others_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "one")
    for name, text in {"cut": '{"name": "cut", ', "list": "[]", "nameless": "{}"}.items():
        (tmp_path / "conda-meta" / f"{name}.json").write_text(text)
    found = read(tmp_path, monkeypatch)
    assert [record["name"] for record in found.conda] == ["one"]
    assert len(found.problems) == 3


@pytest.mark.parametrize("folder", [SITE, "site-packages"])
def test_a_distribution_belongs_to_the_package_that_lists_its_metadata(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = '{"url": "file:///home/conda/feedstock_root/work", "dir_info": {}}'
    write_distribution(tmp_path, "one", **{"direct_url.json": url})
    write_distribution(tmp_path, "two")
    write_record(tmp_path, "py-one", files=[f"{folder}/one-1.0.dist-info/METADATA"])
    site = str(tmp_path / SITE)
    monkeypatch.setattr("sysconfig.get_path", lambda *_, **__: site)
    found = read(tmp_path, monkeypatch).distributions
    assert found["one"]["conda"] == "py-one"
    assert "direct_url" not in found["one"]
    assert "conda" not in found["two"]


def test_a_legacy_egg_info_belongs_to_its_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SITE).mkdir(parents=True)
    (tmp_path / SITE / "old-1.0-py3.11.egg-info").write_text("Name: old\nVersion: 1.0\n")
    write_record(tmp_path, "old", files=[f"{SITE}/old-1.0-py3.11.egg-info"])
    found = read(tmp_path, monkeypatch)
    assert found.distributions["old"]["conda"] == "old"
    assert found.problems == []


def test_files_that_pip_wrote_over_condas_are_no_longer_condas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write_distribution(tmp_path, "one", INSTALLER="pip\n", RECORD="1234567890")
    paths = [{"_path": f"{entry}/RECORD", "size_in_bytes": 999}]
    write_record(tmp_path, "one", files=[f"{entry}/METADATA"], paths_data={"paths": paths})
    found = read(tmp_path, monkeypatch)
    assert "conda" not in found.distributions["one"]
    assert found.problems == [
        {"subject": "one", "message": "Its files have been overwritten by `pip`"}
    ]


def test_a_package_whose_distribution_was_replaced_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_distribution(tmp_path, "one", "2.0")
    write_record(tmp_path, "one", files=[f"{SITE}/one-1.0.dist-info/METADATA"])
    found = read(tmp_path, monkeypatch)
    assert found.distributions["one"]["version"] == "2.0"
    assert [problem["subject"] for problem in found.problems] == ["one"]


def test_metadata_that_a_package_vendors_is_not_a_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendored = f"{SITE}/setuptools/_vendor/wheel-1.0.dist-info/METADATA"
    write_record(tmp_path, "setuptools", files=[vendored])
    found = read(tmp_path, monkeypatch)
    assert (found.distributions, found.problems) == ({}, [])


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A prefix that rattler made of the tests' channel."""
    channel = ensure_channel()
    prefix, listing = tmp_path / "prefix", tmp_path / "explicit.txt"
    listing.write_text(explicit_list(channel, channel.folder.as_uri(), NAMES))
    command = [sys.executable, str(channel.micromamba), "create", "--no-rc", "-y", "-q"]
    subprocess.run(
        [*command, "-p", prefix, "-f", listing],
        env={"HOME": str(tmp_path), "MAMBA_ROOT_PREFIX": str(tmp_path / "root")},
        check=True,
    )
    return prefix


@pytest.mark.subprocess
def test_a_prefix_that_rattler_made_is_read_whole(made: Path, tmp_path: Path) -> None:
    install(made, make_wheel(tmp_path, "one").path)
    found = scan_prefix(made)
    assert found.kind == "conda"
    assert found.interpreter.prefix == found.interpreter.base_prefix == str(made)
    assert found.interpreter.base_executable.startswith(f"{os.path.realpath(made)}/bin/python3.")
    assert {record.name for record in found.conda} == set(NAMES)
    channel = ensure_channel()
    for record in found.conda:
        package = channel.packages[record.name]
        assert record.url == f"{channel.folder.as_uri()}/conda/{package.path}"
        assert (record.version, record.sha256) == (package.version, package.sha256)
    owners = {(item.name, item.version): item.conda for item in found.distributions}
    assert owners == {
        ("numpy", NUMPY): "numpy",
        ("tabulate", TABULATE): "tabulate",
        ("one", "1.0"): None,
    }
    assert found.problems == ()


@pytest.mark.subprocess
@pytest.mark.parametrize("tool", ["venv", "uv"])
def test_a_venv_on_top_knows_what_is_condas_below(tool: str, made: Path, tmp_path: Path) -> None:
    """conda's builder leaves a direct URL of its own, of a folder that is gone."""
    (info,) = made.glob(f"{SITE}/tabulate-*.dist-info")
    (info / "direct_url.json").write_text('{"url": "file:///home/conda/work", "dir_info": {}}')
    top = tmp_path / "top"
    python = made / "bin" / "python"
    if tool == "venv":
        run(python, "-m", "venv", "--without-pip", "--system-site-packages", top)
    else:
        run(find_uv_bin(), "venv", "-q", "--system-site-packages", "--python", python, top)
    install(top, make_wheel(tmp_path, "one").path, make_wheel(tmp_path, "numpy", "9.0").path)
    found = scan_prefix(top)
    assert found.kind == "conda"
    assert {record.name for record in found.conda} == set(NAMES)
    owners = {(item.name, item.version): item.conda for item in found.distributions}
    assert owners == {
        ("numpy", "9.0"): None,
        ("tabulate", TABULATE): "tabulate",
        ("one", "1.0"): None,
    }
    assert found.problems == ()
    # Without the packages below it is a venv as any other.
    alone = tmp_path / "alone"
    run(find_uv_bin(), "venv", "-q", "--python", python, alone)
    assert (scan_prefix(alone).kind, scan_prefix(alone).conda) == ("venv", ())


@pytest.mark.subprocess
def test_a_package_that_uv_installed_again_is_no_longer_condas(made: Path, tmp_path: Path) -> None:
    install(made, "--reinstall", make_wheel(tmp_path, "tabulate", TABULATE).path)
    found = scan_prefix(made)
    assert find(found, "tabulate").conda is None
    assert complaints(found, "tabulate") == ["Its files have been overwritten by `uv`"]


@pytest.mark.subprocess
def test_records_lose_every_credential(made: Path) -> None:
    (path,) = made.glob("conda-meta/tabulate-*.json")
    record = json.loads(path.read_text())
    host = "https://s3cr3t-user:s3cr3t-password@conda.example/t/s3cr3t-token/team"
    record.update(channel=host, url=f"{host}/noarch/a.conda?s3cr3t-signature", auth="s3cr3t-auth")
    path.write_text(json.dumps(record))
    found = scan_prefix(made)
    assert "s3cr3t" not in json.dumps(found.to_dict())
    (kept,) = (record for record in found.conda if record.name == "tabulate")
    assert kept.url == "https://conda.example/team/noarch/a.conda"
    assert kept.channel == "https://conda.example/team"


@pytest.mark.subprocess
def test_a_package_that_pip_uninstalled_does_not_come_back(made: Path) -> None:
    subprocess.run([made / "bin/tabulate", "--help"], check=True, capture_output=True)
    uninstall = [find_uv(), "pip", "uninstall", "-q", "--break-system-packages", "-p", str(made)]
    subprocess.run([*uninstall, "tabulate"], check=True, env={"PATH": os.environ["PATH"]})
    found = scan_prefix(made)
    assert {record.name for record in found.conda} == {*NAMES} - {"tabulate"}
    assert complaints(found, "tabulate")[-1].startswith(
        "Was uninstalled by another tool than conda"
    )


@pytest.mark.subprocess
def test_a_module_that_was_edited_in_place_is_found(made: Path) -> None:
    module = made / SITE / "tabulate/__init__.py"
    data, record = module.read_bytes(), min((made / "conda-meta").glob("tabulate-*.json"))
    later = record.stat().st_mtime + 60
    # Hard links are shared with other environments.
    module.unlink()
    module.write_bytes(data)
    os.utime(module, (later, later))
    assert find(scan_prefix(made), "tabulate").record == "ok"
    module.write_bytes(data.replace(b"import", b"imp0rt", 1))
    os.utime(module, (later, later))
    found = scan_prefix(made)
    assert find(found, "tabulate").record == "drifted"
    assert complaints(found, "tabulate") == [
        "Changed since its installation: `tabulate/__init__.py`"
    ]
    assert {item.name for item in found.distributions if item.record == "drifted"} == {"tabulate"}


def test_of_two_packages_with_one_file_the_one_on_disk_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/shared").write_text("of alpha")
    (tmp_path / "etc/same").write_text("of both")
    for name in ("alpha", "beta", "gamma"):
        texts = {"etc/shared": f"of {name}", "etc/same": "of both", f"etc/{name}": name}
        paths = [
            {"_path": path, "sha256_in_prefix": hashlib.sha256(text.encode()).hexdigest()}
            for path, text in texts.items()
        ]
        write_record(tmp_path, name, files=list(texts), paths_data={"paths": paths})
    found = read(tmp_path, monkeypatch)
    after = {record["name"]: record.get("after") for record in found.conda}
    assert after == {"alpha": ["beta", "gamma"], "beta": None, "gamma": None}


def test_two_records_of_one_package_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "one")
    stale = tmp_path / "conda-meta/one-0.9-py_0.json"
    stale.write_text(json.dumps({"name": "one", "version": "0.9", "build": "py_0", "files": []}))
    [problem] = read(tmp_path, monkeypatch).problems
    assert problem["subject"] == "one"
    assert "`one-0.9-py_0.json` and `one-1.0-py_0.json`" in problem["message"]
