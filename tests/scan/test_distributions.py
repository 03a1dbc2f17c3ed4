"""What metadata says, and which of several agrees with the disk; folders written by hand."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from envboot.scan.probe import found
from envboot.scan.probe.distributions import is_systems
from envboot.scan.probe.strays import top_names
from tests.scan.test_conda import SITE, read, write_distribution, write_record

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.probe.found import Environment

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def write(prefix: Path, **files: str) -> None:
    """Write files into site-packages; `__` in a name is a dot."""
    for name, text in files.items():
        path = prefix / SITE / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def strays(found: Environment) -> list[str]:
    (folder,) = found.folders
    return list(folder["strays"])


def only(found: Environment) -> dict[str, Any]:
    (document,) = found.distributions.values()
    return document


def test_requirements_are_kept_as_they_stand_without_those_of_extras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = (
        "Name: one\nVersion: 1.0\nRequires-Python: >=3.8\n"
        "Requires-Dist: two (>=1,<2)\n"
        'Requires-Dist: three>=1 ; python_version < "3.9"\n'
        "Requires-Dist: extras-helper\n"
        'Requires-Dist: four ; extra == "dev"\n'
        "Requires-Dist: five; python_version>'3' and extra=='dev'\n"
        'Requires-Dist: six ; os_name == "nt" or extra == "dev"\n'
        "\nRequires-Dist: body\n"
    )
    write_distribution(tmp_path, "one", METADATA=headers)
    document = only(read(tmp_path, monkeypatch))
    assert document["requires_python"] == ">=3.8"
    assert document["requires"] == [
        "two (>=1,<2)",
        'three>=1 ; python_version < "3.9"',
        "extras-helper",
        'six ; os_name == "nt" or extra == "dev"',
    ]


def test_requirements_of_old_metadata_are_read_from_their_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / SITE / "old-1.0-py3.11.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text(METADATA.format(name="old", version="1.0"))
    text = (
        "two>=1\n\n[:sys_platform == 'win32']\nthree\n\n[dev]\nfour\n\n[dev:os_name == 'nt']\nx\n"
    )
    (info / "requires.txt").write_text(text)
    assert only(read(tmp_path, monkeypatch))["requires"] == [
        "two>=1",
        "three; sys_platform == 'win32'",
    ]


@pytest.mark.parametrize(
    ("folder", "installer", "expected"),
    [
        ("/usr/lib/python3/dist-packages", None, True),
        ("/usr/lib/python3/dist-packages", "pip", True),
        ("/usr/lib64/python3.9/site-packages", "rpm", True),
        ("/usr/lib/python3.11/site-packages", None, True),
        ("/usr/lib/python3.11/site-packages", "pip", False),
        ("/usr/local/lib/python3.11/dist-packages", None, False),
        ("/usr/local/lib/python3.11/site-packages", "pip", False),
        ("/home/x/v/lib/python3.11/site-packages", None, False),
    ],
)
def test_what_the_operating_systems_package_manager_owns_is_the_systems(
    folder: str, installer: str | None, expected: bool
) -> None:
    assert is_systems(folder, installer) is expected


@pytest.mark.parametrize("on_disk", ["Foo_Bar-1.0", "foo.bar-2.0"])
def test_two_spellings_of_one_name_are_one_distribution_the_one_on_the_disk(
    on_disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version, size in (("Foo_Bar", "1.0", 3), ("foo.bar", "2.0", 7)):
        write_distribution(tmp_path, name, version, RECORD=f"foo.py,sha256=x,{size}\n")
    size = 3 if on_disk == "Foo_Bar-1.0" else 7
    write(tmp_path, foo__py="x" * size)
    found = read(tmp_path, monkeypatch)
    assert [(each["name"], each["version"]) for each in found.distributions.values()] == [
        ("foo-bar", on_disk.rpartition("-")[2])
    ]


@pytest.mark.parametrize("owner", ["conda", "pip"])
def test_of_condas_and_pips_version_the_one_on_the_disk_is_the_one_entry(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write_distribution(tmp_path, "one", "1.0", RECORD="one.py,sha256=x,3\n")
    paths = [{"_path": f"{entry}/RECORD", "size_in_bytes": 18}]
    write_record(tmp_path, "one", files=[f"{entry}/METADATA"], paths_data={"paths": paths})
    write_distribution(tmp_path, "one", "2.0", RECORD="one.py,sha256=x,7\n", INSTALLER="pip")
    write(tmp_path, one__py="x" * (3 if owner == "conda" else 7))
    document = only(read(tmp_path, monkeypatch))
    expected = ("1.0", "one") if owner == "conda" else ("2.0", None)
    assert (document["version"], document.get("conda")) == expected


def test_a_packages_own_tests_are_not_what_its_health_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = "one/tests/test_a.py,,3\none/testing.py,,3\n"
    write_distribution(tmp_path, "one", RECORD=record)
    (tmp_path / SITE / "one").mkdir()
    (tmp_path / SITE / "one/testing.py").write_text("xxx")
    assert only(read(tmp_path, monkeypatch))["record"] == "ok"
    (tmp_path / SITE / "one/testing.py").write_text("x")
    assert only(read(tmp_path, monkeypatch))["record"] == "drifted"


def test_what_no_record_lists_is_a_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = "one/__init__.py,,\nsix.py,,\none/a.py,,\nlast/a.py,,\none/b.py,,\n../../bin/x,,\n"
    write_distribution(tmp_path, "one", RECORD=record)
    write(tmp_path, six__py="", mine__py="", _virtualenv__py="", README__txt="")
    for folder in ("one", "last", "helper", "no-name", "__pycache__"):
        (tmp_path / SITE / folder).mkdir()
    assert strays(read(tmp_path, monkeypatch)) == ["helper", "mine.py", "no-name"]


@pytest.mark.parametrize("rows", [["a/x", "b", "a/y", "c/z"], ["c/z", "a/x", "b", "a/y"], []])
def test_names_are_read_from_records_in_any_order(
    rows: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = "".join(f"{row},sha256=x,1\n" for row in rows)
    assert top_names(record.encode()) <= {"a", "b", "c"}
    write_distribution(tmp_path, "one", RECORD=record)
    for row in rows:
        (tmp_path / SITE / row.partition("/")[0]).mkdir(exist_ok=True)
    assert strays(read(tmp_path, monkeypatch)) == []


def test_what_a_distribution_without_record_declares_is_no_stray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / SITE / "Old_Name-1.0.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text(METADATA.format(name="Old-Name", version="1.0"))
    (info / "top_level.txt").write_text("declared\nmodule\n")
    (info / "installed-files.txt").write_text("../listed/a.py\nPKG-INFO\n")
    write(tmp_path, module__py="", mine__py="", old_name__py="")
    for folder in ("declared", "listed"):
        (tmp_path / SITE / folder).mkdir()
    assert strays(read(tmp_path, monkeypatch)) == ["mine.py"]


@pytest.mark.parametrize("folder", [SITE, "site-packages"])
def test_what_a_conda_package_lists_is_no_stray(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "one", files=[f"{folder}/module.py", f"{folder}/package/a.py"])
    write(tmp_path, module__py="", mine__py="")
    (tmp_path / SITE / "package").mkdir()
    assert strays(read(tmp_path, monkeypatch)) == ["mine.py"]


def test_a_bracket_in_a_files_name_does_not_hide_a_conda_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write_distribution(tmp_path, "one", RECORD="12345")
    paths = [{"_path": "share/a[1].txt"}, {"_path": f"{entry}/RECORD", "size_in_bytes": 5}]
    files = ["share/a[1].txt", f"{entry}/METADATA"]
    write_record(tmp_path, "one", files=files, paths_data={"paths": paths}, depends=["python"])
    found = read(tmp_path, monkeypatch)
    assert only(found)["conda"] == "one"
    assert found.conda[0]["depends"] == ["python"]
    assert found.problems == []


def test_a_pth_file_that_leads_nowhere_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, mine__pth=f"# comment\n/gone/folder\nbeside\n{tmp_path}\nimport sys\n")
    (tmp_path / SITE / "beside").mkdir()
    found = read(tmp_path, monkeypatch)
    assert found.problems[0] == {
        "subject": "/gone/folder",
        "message": "Is gone, but `mine.pth` still puts it on the path",
    }


def test_start_up_code_that_nothing_installed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, mine__pth="import sys\n", owned__pth="import sys\n", plain__pth="")
    write_distribution(tmp_path, "one", RECORD="owned.pth,,\n")
    found = read(tmp_path, monkeypatch)
    (problem,) = found.problems
    assert problem["subject"] == str(tmp_path / SITE / "mine.pth")
    assert strays(found) == []


LOADERS = {
    "setuptools": ("__editable___one_1_0_finder", "MAPPING = {'one': '%s/src/one'}"),
    "scikit-build-core": ("_editable_skbc_one", "install({'one': '%s/src/one/__init__.py'}, {})"),
    "meson-python": ("_one_editable_loader", "install('one', {'one'}, '%s/build/cp311', ['/usr'])"),
    "editables": ("_editable_impl_one", "F.map_module('one', '%s/src/one/__init__.py')"),
    "poetry, pdm, hatch and uv": ("", ""),
}


@pytest.mark.parametrize("backend", LOADERS)
def test_an_editable_install_is_found_by_what_its_backend_left(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "my project"
    for folder in ("src/one", "build/cp311"):
        (project / folder).mkdir(parents=True)
    (project / "src/one/__init__.py").touch()
    (project / "pyproject.toml").touch()
    module, loader = LOADERS[backend]
    prefix = tmp_path / "v"
    prefix.mkdir()
    write_distribution(prefix, "one", RECORD="one.pth,,\n")
    write(prefix, one__pth=f"import {module}\n" if module else f"{project}/src\n")
    if module:
        text = f"PREFIX = '/no/such/path'\n{loader % project}\n"
        (prefix / SITE / f"{module}.py").write_text(text)
    document = only(read(prefix, monkeypatch))
    assert document["editable"] is True
    assert document["direct_url"]["url"] == f"file://{tmp_path}/my%20project"


@pytest.mark.parametrize(
    "direct",
    [
        {
            "url": "https://host/one.git",
            "vcs_info": {"vcs": "git", "requested_revision": "v1", "commit_id": "a" * 40},
            "subdirectory": "python",
        },
        {"url": "https://host/one.zip", "archive_info": {"hashes": {"sha256": "a" * 64}}},
        {"url": "https://host/one", "vcs_info": {"vcs": "hg", "commit_id": "a" * 40}},
        {"url": "file:///src/one", "dir_info": {}},
    ],
)
def test_every_kind_of_direct_url_is_kept_whole(
    direct: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_distribution(tmp_path, "one", **{"direct_url.json": json.dumps(direct)})
    document = only(read(tmp_path, monkeypatch))
    assert document["direct_url"] == direct
    assert document.get("editable", False) is False


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"top_level.txt": "one\n_native\n"}, {"one", "one.py", "_native", "_native.py"}),
        ({}, {"two_three", "two_three.py"}),
    ],
)
def test_what_an_editable_project_provides_is_what_it_declares_or_its_name(
    files: dict[str, str], expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = json.dumps({"url": f"file://{tmp_path}", "dir_info": {"editable": True}})
    write_distribution(tmp_path, "Two_Three", **{"direct_url.json": direct}, **files)
    assert set(read(tmp_path, monkeypatch).provided["two-three"]) == expected


def test_what_a_path_install_provides_is_what_it_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = json.dumps({"url": f"file://{tmp_path}", "dir_info": {}})
    record = "one/a.py,,\none.libs/b.so,,\n"
    write_distribution(tmp_path, "two", RECORD=record, **{"direct_url.json": direct})
    assert read(tmp_path, monkeypatch).provided["two"] == ["one", "one.libs"]


def test_reading_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_distribution(tmp_path, "one")
    before = sorted(os.walk(tmp_path))
    read(tmp_path, monkeypatch)
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize("size", [0, 3, 4, 5, 8, 9])
def test_files_are_read_to_their_end(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "_CHUNK", 4)
    (tmp_path / "file").write_bytes(bytes(range(size)))
    assert found.read(str(tmp_path / "file")) == bytes(range(size))
