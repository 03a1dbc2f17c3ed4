"""Importable here, silently absent there: each is sent, or it is named."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from envboot.scan.loose import PathEntry, find_loose, list_places
from envboot.scan.probe import added
from envboot.scan.probe.found import Environment
from envboot.scan.schema import Distribution
from tests.layer.code import bring as bring_layer
from tests.layer.code import build, found, shipped, write
from tests.layer.projects import build as build_projects
from tests.layer.projects import write_project
from tests.lock.documents import make_scan
from tests.scan.sites import bring, record

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.subprocess


def site_with(tmp_path: Path, installed: dict[str, str], by_hand: dict[str, str]) -> Path:
    site = write(tmp_path / "site-packages", {**installed, **by_hand})
    record(site, "plug", list(installed))
    return site


def test_files_that_were_added_to_an_installed_package_are_sent(tmp_path: Path) -> None:
    installed = {"plug/__init__.py": "", "plug/plugins/__init__.py": ""}
    by_hand = {
        "plug/plugins/mine.py": "",
        "plug/models/de/model.bin": "",
        "plug/py.typed": "",
        "plug/plugins/__pycache__/gone.cpython-311.pyc": "",
        "plug/old/__pycache__/gone.cpython-311.pyc": "",
        "plug/.DS_Store": "",
    }
    sent, problems = bring(site_with(tmp_path, installed, by_hand))
    assert sent == {"plug/plugins/mine.py", "plug/models/de/model.bin", "plug/py.typed"}
    assert problems == ()


def test_a_part_of_a_namespace_that_was_copied_in_is_sent_from_any_depth(tmp_path: Path) -> None:
    installed = {"corp/core/__init__.py": "", "corp/deep/space/one/__init__.py": ""}
    by_hand = {"corp/tools/__init__.py": "", "corp/deep/space/two/a.py": ""}
    sent, _ = bring(site_with(tmp_path, installed, by_hand))
    assert sent == set(by_hand)


def test_what_lies_in_a_package_that_is_not_sent_is_not_sent_either(tmp_path: Path) -> None:
    site = site_with(tmp_path, {"plug/__init__.py": ""}, {"plug/mine.py": ""})
    record(site, "other", [])
    assert bring(site)[0] == {"plug/mine.py"}
    assert bring(site, "plug")[0] == set()


def test_a_credential_file_in_a_package_stays_here_and_is_named(tmp_path: Path) -> None:
    site = site_with(tmp_path, {"plug/__init__.py": ""}, {"plug/.env": "TOKEN=1"})
    sent, problems = bring(site)
    assert sent == set()
    assert any("plug/.env" in problem.message for problem in problems)


def test_data_right_in_site_packages_is_named(tmp_path: Path) -> None:
    site = site_with(tmp_path, {"plug/__init__.py": ""}, {"tables/a.csv": "", "conf.json": ""})
    write(site, {"README.txt": "of Python", "mine.py": ""})
    sent, problems = bring(site)
    assert sent == {"mine.py"}
    (problem,) = problems
    assert problem.subject == str(site)
    assert problem.message.endswith("nothing has installed it: `conf.json`, `tables`")


def test_names_with_commas_and_packages_without_a_list_of_files_are_nobodys_additions(
    tmp_path: Path,
) -> None:
    site = write(
        tmp_path / "site-packages",
        {
            "plug/a,b.py": "",
            "old/part.py": "",
            "old-1.0.egg-info/PKG-INFO": "Metadata-Version: 1.0\nName: old\nVersion: 1.0\n",
            "old-1.0.egg-info/top_level.txt": "old\n",
        },
    )
    record(site, "plug", [])
    with (site / "plug-1.0.dist-info" / "RECORD").open("a") as stream:
        stream.write('"plug/a,b.py",,\n')
    assert bring(site)[0] - {"old"} == set()


def test_files_of_conda_packages_are_known_from_condas_own_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"noarch/a.py": "", "arch/b.so": "", "arch/mine.py": ""})
    monkeypatch.chdir(tmp_path)
    environment = Environment()
    lists = (["site-packages/noarch/a.py"], ["lib/python3.11/site-packages/arch/b.so"])
    environment.files += [json.dumps(each).encode() for each in lists]
    found_there = added.find_added(environment, [], set(), is_purelib=True)
    assert found_there == {"": ["arch/mine.py"]}


def test_twenty_seven_thousand_files_cost_less_than_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"p{n % 60}/d{n % 900}/m{n}.py" for n in range(27_000)]
    for folder in {path.rpartition("/")[0] for path in paths}:
        (tmp_path / folder).mkdir(parents=True)
    for path in paths:
        (tmp_path / path).touch()
    (tmp_path / "p1/mine.py").touch()
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{path},sha256=x,0\n" for path in paths).encode()
    start = time.process_time()
    found_there = added.find_added(Environment(), [("p", rows)], set(), is_purelib=False)
    assert time.process_time() - start < 1
    assert found_there == {"p": ["p1/mine.py"]}


def test_metadata_of_a_target_directory_is_sent_and_that_of_an_installed_project_is_not(
    tmp_path: Path,
) -> None:
    vendor = write(
        tmp_path / "vendor",
        {
            "vend/__init__.py": "",
            "vend-2.0.dist-info/METADATA": "",
            "Old_Style.egg-info/PKG-INFO": "",
            "mine.egg-info/PKG-INFO": "",
        },
    )
    scan = make_scan(Distribution(name="mine", version="1", location="/v"))
    places = list_places(tmp_path, {"PYTHONPATH": str(vendor)}, current=False)
    (loose,), _ = find_loose(scan, places, {}, environment={"HOME": "/nowhere"})
    assert loose.names == ("Old_Style.egg-info", "vend", "vend-2.0.dist-info")


def test_the_metadata_of_an_egg_directory_is_found_by_its_name_there(
    tmp_path: Path, cache: Path
) -> None:
    egg = write(
        tmp_path / "hen-1.0-py3.11.egg",
        {"hen.py": "", "EGG-INFO/PKG-INFO": "Metadata-Version: 1.0\nName: hen\nVersion: 1.0\n"},
    )
    place = PathEntry(folder=egg, origin="pth")
    (loose,), _ = find_loose(make_scan(), [place], {}, environment={"HOME": "/nowhere"})
    opened = bring_layer(loose, cache=cache, to=tmp_path / "out")
    place_there = "0/hen-1.0-py3.11.egg"
    assert shipped(opened) == {f"{place_there}/hen.py", f"{place_there}/EGG-INFO/PKG-INFO"}


def test_data_beside_modules_on_the_path_is_named_and_include_sends_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lib = write(tmp_path / "lib", {"modx.py": "", "schema.json": "{}", "deep/a.csv": ""})
    monkeypatch.chdir(write(tmp_path / "run", {"a.py": ""}))
    given = found(lib, "modx.py", origin="pythonpath")
    layer = build(given, cache=cache)
    assert layer
    (note,) = layer.notes
    assert note.subject == str(lib)
    assert 'code): `deep`, `schema.json`; to send it, write `include = ["../lib/' in note.message
    named = build(given, cache=cache, include=("../lib/schema.json", "../lib/deep/", "*.json"))
    assert named
    paths = {file.path for file in named.code.files}
    assert paths == {"modx.py", "schema.json", "deep/a.csv"}
    assert named.notes == ()


@pytest.mark.parametrize("packages", [(), ("src/other",)])
def test_an_editable_project_whose_wheel_lacks_a_package_is_named(
    tmp_path: Path, cache: Path, packages: tuple[str, ...]
) -> None:
    files = {"src/firmx/geo.py": "", "src/other/__init__.py": ""}
    source = write_project(tmp_path / "p", "firmx", files=files, packages=packages)
    (note,) = build_projects(source, cache=cache).notes
    assert note.subject == "firmx"
    assert "missing from the project's wheel): `firmx/`" in note.message
