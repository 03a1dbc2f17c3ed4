"""What users of such tools complain about: a test for each, named after the complaint."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import Exit
from envboot.indexes.program import find_uv
from tests.agent.guests import Guest, make_launch, make_layer, make_manifest
from tests.channel import ensure_channel, explicit_list
from tests.index import make_wheel, serve_folder, write_simple
from tests.launch.workspace import ENVBOOT
from tests.layer.projects import write_project

if TYPE_CHECKING:
    from envboot.store.local.store import LocalStore
    from tests.agent.guests import Launch, Parts
    from tests.complaints.conftest import Folder

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

ROOT = Path(__file__).parent.parent.parent
INDEX = "UV_DEFAULT_INDEX"


def install(
    folder: Folder, place: Path, *requirements: str, project: str | None = None, **variables: str
) -> Path:
    """Make one more environment with these packages, or with a project beside it."""
    if project:
        write_project(place / project, project)
        requirements = (str(place / project),)
    venv = place / "venv"
    for words in (
        ["venv", "-q", "--python", os.path.realpath(sys.executable), str(venv)],
        ["pip", "install", "-q", "-p", str(venv), *requirements],
    ):
        done = folder.run(find_uv(), *words, VIRTUAL_ENV="", **variables)
        assert done.returncode == 0, done.stderr
    return venv


def make_conda(prefix: Path) -> Path:
    """Make a prefix with a conda package of a private channel; its interpreter is a copy."""
    channel = ensure_channel()
    explicit = prefix.with_suffix(".txt")
    explicit.write_text(explicit_list(channel, channel.folder.as_uri(), ("python", "tabulate")))
    command = [str(channel.micromamba), "create", "--no-rc", "-y", "-q"]
    command += ["-p", str(prefix), "-f", str(explicit)]
    variables = {**os.environ, "MAMBA_ROOT_PREFIX": str(prefix.parent / "mamba")}
    subprocess.run(command, env=variables, check=True)
    [record] = prefix.glob("conda-meta/tabulate-*.json")
    document = json.loads(record.read_text())
    document["channel"] = "https://me:swordfish@conda.test/t/tk-swordfish-a/main"
    document["url"] = f"{document['channel']}/noarch/{document['fn']}"
    record.write_text(json.dumps(document))
    return prefix


def test_builds_that_fail_without_a_log(folder: Folder, tmp_path: Path) -> None:
    venv = install(folder, tmp_path, project="broken")
    document = tmp_path / "broken/tiny.json"
    document.write_text(document.read_text().replace("{", '{"fail": "no compiler here", ', 1))
    done = folder.run(ENVBOOT, "launch", "local", "--python", str(venv), "--", "true")
    assert done.returncode == Exit.LAYER
    assert "error: Failed to build a wheel of `broken` from" in done.stderr
    assert "no compiler here" in done.stderr
    [log] = re.findall(r"The whole log is `(.+)`", done.stderr)
    assert "no compiler here" in Path(log).read_text()


def test_versions_on_the_machines_that_differ_from_the_clients(arrived: Any) -> None:
    # The index has 2.0 too.
    assert arrived["tiny-one"] == ["1.0", "tiny-one"]


def test_odd_characters_in_a_path_that_break_the_wheels_name(folder: Folder, arrived: Any) -> None:
    assert not re.fullmatch(r"[\w./-]+", str(folder.work), re.ASCII)
    assert "odd_app" in arrived["names"]
    assert any(re.search(r"/odd_app-1\.0\.dist-info/RECORD$", path) for path in arrived["files"])


def test_two_folders_of_the_same_base_name_where_the_second_ones_files_are_silently_lost(
    arrived: Any,
) -> None:
    values = [arrived["values"][name] for name in ("first", "second", "same")]
    assert values == ["first", "second", "a"]
    assert len([path for path in arrived["files"] if path.endswith("/same.py")]) == 2


def test_src_layouts_shipped_twice(arrived: Any) -> None:
    assert arrived["values"]["odd_app"] == "src"
    for name in ("odd_app/__init__.py", "odd_app/data.txt"):
        assert len([path for path in arrived["files"] if path.endswith(name)]) == 1


def test_data_files_and_extension_modules_of_loose_code_not_shipped(arrived: Any) -> None:
    assert arrived["data"] == "1,2\n"
    assert arrived["extension"] == "SimpleQueue"


def test_subdirectory_of_a_git_install_ignored(arrived: Any) -> None:
    assert arrived["values"]["sub"] == "subdirectory"
    assert "wrong" not in arrived["names"]


def test_names_not_normalised_so_that_one_package_is_listed_twice(
    folder: Folder, tmp_path: Path
) -> None:
    venv = install(folder, tmp_path, "tiny-one==1.0")
    [info] = venv.glob("lib/*/site-packages/tiny_one-1.0.dist-info")
    stale = info.with_name("Tiny.One-0.9.dist-info")
    stale.mkdir()
    (stale / "METADATA").write_text("Metadata-Version: 2.1\nName: Tiny.One\nVersion: 0.9\n")
    found = folder.envboot("scan", "--json", "--python", str(venv))
    names = [(item["name"], item["version"]) for item in found["distributions"]]
    assert names == [("tiny-one", "1.0")]


def test_a_stray_egg_info_in_the_working_folder_taken_for_an_installed_package(
    folder: Folder, arrived: Any
) -> None:
    found = folder.envboot("scan", "--json")
    assert "stray" not in {item["name"] for item in found["distributions"]}
    # Its metadata is sent with the code beside it: `importlib.metadata` finds it here as well.
    assert "stray" in arrived["names"]


def test_several_extra_index_urls_mangled_into_one(folder: Folder, tmp_path: Path) -> None:
    names = ("only-here", "only-there")
    for name in names:
        (tmp_path / name).mkdir()
        make_wheel(tmp_path / name, name)
        write_simple(tmp_path / name)
    with serve_folder(tmp_path) as url:
        extra = " ".join(f"{url}/{name}/simple" for name in names)
        variables = {name: text for name, text in folder.variables.items() if name != INDEX}
        variables |= {"PIP_INDEX_URL": folder.variables[INDEX], "PIP_EXTRA_INDEX_URL": extra}
        user = replace(folder, variables=variables)
        venv = install(folder, tmp_path, "tiny-one==1.0")
        pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "-q", *names]
        assert user.run(*pip).returncode == 0
        command = ["lock", "--host-python", "--no-loose", "--python", str(venv)]
        locked = user.envboot(*command)
    hosts = {wheel["name"]: wheel["url"] for wheel in locked["base"]["wheels"]}
    assert {name: f"{url}/{name}/" in hosts[name] for name in names} == dict.fromkeys(names, True)
    assert "tiny-one" in hosts


def test_passwords_embedded_in_channel_and_index_urls_sent_along(
    folder: Folder, tmp_path: Path
) -> None:
    url = folder.variables[INDEX].replace("://", "://me:swordfish@")
    venv = install(folder, tmp_path, "tiny-one==1.0", **{INDEX: url})
    own = {name: str(tmp_path / name) for name in ("ENVBOOT_STATE_DIR", "ENVBOOT_CACHE_DIR")}
    command = [ENVBOOT, "launch", "local", "--keep", "--python", str(venv), "--"]
    launched = folder.run(*command, "python", "-m", "tiny_one", **own, **{INDEX: url})
    folder.run(ENVBOOT, "terminate", "--all", "--keep", **own)
    assert launched.returncode == 0, launched.stderr
    scanned = folder.run(ENVBOOT, "scan", "--json", "--python", str(make_conda(tmp_path / "conda")))
    assert '"https://conda.test/main"' in scanned.stdout
    assert "swordfish" not in launched.stdout + launched.stderr + scanned.stdout + scanned.stderr
    written = [path for name in own for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert any(path.name == "user-data" for path in written)
    assert [path for path in written if b"swordfish" in path.read_bytes()] == []


def test_every_local_wheel_rebuilt_one_after_another_in_each_process(
    folder: Folder, tmp_path: Path
) -> None:
    venv = install(folder, tmp_path, project="counted")
    document, counter = tmp_path / "counted/tiny.json", tmp_path / "builds"
    document.write_text(document.read_text().replace("{", f'{{"counter": "{counter}", ', 1))
    command = ["lock", "--host-python", "--python", str(venv)]
    locked = [folder.envboot(*command) for _ in range(2)]
    assert counter.read_text() == "counted\n"
    assert locked[0] == locked[1]


def test_dask_forced_on_people_who_do_not_use_it(folder: Folder, arrived: Any) -> None:
    assert not {"dask", "distributed"} & set(arrived["names"])
    needs = importlib.metadata.requires("envboot") or ()
    # Who wants clusters asks for them: `envboot[dask]`.
    forced = [need for need in needs if 'extra == "dask"' not in need]
    assert not [need for need in forced if re.match("dask|distributed", need)]


def test_a_lock_file_picked_up_by_location_although_the_active_environment_is_another_one(
    folder: Folder, arrived: Any
) -> None:
    assert {path.name for path in folder.work.glob("*lock*")} == {"uv.lock", "pylock.toml"}
    assert arrived["tiny-one"] == ["1.0", "tiny-one"]


def test_no_update_of_running_machines(parts: Parts, store: LocalStore, tmp_path: Path) -> None:
    def edit(text: str) -> Launch:
        manifest, layer = make_layer(make_manifest(parts), tmp_path, {"mine.txt": text.encode()})
        return make_launch(parts, store, tmp_path, manifest=manifest, layer=layer)

    machine = Guest(tmp_path / "machine", edit("before"))
    assert (machine.boot(), machine.publish()) == (0, 0)
    edited = edit("after")
    assert (machine.env / "mine.txt").read_text() == "before"
    # New user-data reaches it at its next boot, and nothing is installed again.
    machine.give(edited)
    assert machine.boot() == 0
    assert (machine.env / "mine.txt").read_text() == "after"
    assert "install" not in {stage["stage"] for stage in machine.result["stages"]}
    text = " ".join((ROOT / "docs/limitations.md").read_text("utf-8").split())
    assert "A running machine keeps the environment that it booted with" in text
