"""What conda installed of a distribution goes before the layer's own version comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.agent import pack, room, unpack
from envboot.agent.sync import refuse_returning
from envboot.agent.wire import AgentError

if TYPE_CHECKING:
    from pathlib import Path

SITE = "lib/python3.11/site-packages"


def write(prefix: Path, *paths: str) -> None:
    for path in paths:
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text("")


def install(prefix: Path, info: str, *rows: str) -> None:
    """Write files, and a RECORD that lists them."""
    write(prefix, *(f"{SITE}/{row}" for row in rows), f"{SITE}/{info}/METADATA")
    lines = [f"{row},sha256=x,0\n" for row in (*rows, f"{info}/METADATA")]
    (prefix / SITE / info / "RECORD").write_text("".join(lines) + f"{info}/RECORD,,\n")


def list_files(prefix: Path) -> set[str]:
    return {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}


def test_modules_and_metadata_that_only_condas_version_had_are_gone(tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    install(prefix, "Old_Name-0.9.dist-info", "pkg/__init__.py", "pkg/old/gone.py", "single.py")
    install(prefix, "other-1.0.dist-info", "other.py")
    write(
        prefix,
        "conda-meta/old-name.json",
        f"{SITE}/pkg/__pycache__/__init__.cpython-311.pyc",
        f"{SITE}/pkg/old/__pycache__/gone.cpython-311.pyc",
        f"{SITE}/__pycache__/other.cpython-311.pyc",
    )
    room.make(str(prefix), {"projects": [{"name": "old-name", "version": "1.0"}]})
    assert list_files(prefix) == {
        "conda-meta/old-name.json",
        f"{SITE}/__pycache__/other.cpython-311.pyc",
        f"{SITE}/other-1.0.dist-info/METADATA",
        f"{SITE}/other-1.0.dist-info/RECORD",
        f"{SITE}/other.py",
    }
    # An empty directory would still be a namespace package.
    assert not (prefix / SITE / "pkg").exists()
    assert (prefix / "lib/envboot/replaced/old-name").is_dir()


def test_a_record_removes_nothing_outside_of_the_prefix(tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    write(tmp_path, "victim.txt", "env/bin/tool")
    write(prefix, "conda-meta/x.json")
    install(prefix, "x-1.dist-info", "../../../bin/tool")
    record = prefix / SITE / "x-1.dist-info" / "RECORD"
    with record.open("a") as stream:
        stream.write(f"../../../../victim.txt,,\n{tmp_path}/victim.txt,,\n")
    room.make(str(prefix), {"projects": [{"name": "x"}]})
    assert (tmp_path / "victim.txt").exists()
    assert not (prefix / "bin").exists()


def test_an_environment_without_conda_is_left_as_it_is(tmp_path: Path) -> None:
    install(tmp_path, "x-1.dist-info", "x.py")
    before = list_files(tmp_path)
    room.make(str(tmp_path), {"projects": [{"name": "x"}]})
    room.make(str(tmp_path), {})
    assert list_files(tmp_path) == before


def test_a_layer_makes_its_room_and_a_later_one_without_the_project_is_refused(
    tmp_path: Path,
) -> None:
    prefix, tree = tmp_path / "env", tmp_path / "layer"
    install(prefix, "x-1.dist-info", "x/__init__.py", "x/old.py")
    write(prefix, "conda-meta/x.json")
    install(tree, "x-1.dist-info", "x/__init__.py")
    packed = tmp_path / "packed"
    sha256, _, _ = pack.write_layer(str(tree), str(packed))
    layer = {"digest": f"sha256:{sha256}", "projects": [{"name": "x", "version": "1"}]}
    unpack.unpack_layer(packed.read_bytes(), layer, str(prefix))
    found = list_files(prefix) - {"conda-meta/x.json"}
    assert found == list_files(tree)
    refuse_returning(str(prefix), layer)
    for later in ({}, {"projects": [{"name": "other"}]}):
        with pytest.raises(AgentError, match="x, which the base brings too, would be missing"):
            refuse_returning(str(prefix), later)
