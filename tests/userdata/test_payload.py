"""The agent as it travels: smaller, the same on every Python, and the same program."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sysconfig
import zipfile
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from envboot import agent_payload as payload
from envboot.userdata.encoding import gzip_bytes
from tests.userdata.conftest import find_python

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = 8_192


@pytest.mark.subprocess
def test_what_others_call_keeps_its_name_and_the_rest_does_not() -> None:
    source = (
        "import os\n"
        "def public(path, mode=1):\n    return _private(path), mode\n"
        "def _private(somewhere):\n    folder = os.fspath(somewhere)\n    return folder + folder\n"
    )
    small = payload.shrink(source, frozenset({"mode"}))
    assert len(small) < 0.6 * len(source)
    module: dict[str, Any] = {}
    exec(small, module)
    assert module["public"]("a", mode=2) == ("aa", 2)
    assert not {"_private", "folder", "somewhere"} & set(small.replace("(", " ").split())


@pytest.mark.subprocess
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_shrinks_to_the_same_bytes(version: str, tmp_path: Path) -> None:
    code = (
        "import sys; sys.dont_write_bytecode = True\n"
        "from envboot.agent_payload import agent_zip; print(agent_zip()[0])"
    )
    done = subprocess.run(
        [find_python(version), "-c", code],
        text=True,
        capture_output=True,
        check=True,
        env={
            # The shrinker is pure Python: ours serves every interpreter.
            "PYTHONPATH": f"{files('envboot').joinpath('..')}:{sysconfig.get_path('purelib')}",
            "ENVBOOT_CACHE_DIR": str(tmp_path),
        },
    )
    assert done.stdout.strip() == payload.agent_zip()[0]


def test_the_agent_that_every_document_carries_keeps_its_budget() -> None:
    files = payload.agent_files()
    core = [text for path, text in files.items() if path not in payload.EXTRAS]
    assert len(gzip_bytes("".join(core).encode("ascii"))) <= BUDGET
    conda = [*core, files[payload.FOR_CONDA]]
    assert len(gzip_bytes("".join(conda).encode("ascii"))) <= BUDGET + 576


def test_names_that_modules_share_become_short_where_they_are_ours_alone() -> None:
    sources = [
        "class Tree: pass\ndef find_it(path): return path.notify(path)\nREAL_NAME = 'as_text'\n",
        "def as_text(at, do_it): pass\ndef plain(): pass\nas_text(1, do_it=2)\n",
    ]
    names = payload.short_names(sources, frozenset({"do_it"}))
    assert names.keys() - payload.OURS == {"REAL_NAME", "Tree", "find_it"}
    assert not {*names.values()} & {"at", "as", "is", "if", "in", "or"}
    small = [payload.shrink(text, frozenset({"do_it"}), names) for text in sources]
    assert f"class {names['Tree']}" in small[0]
    assert f".{names['notify']}(" in small[0]
    assert "do_it=2" in small[1]


def test_the_rare_modules_are_modules_of_the_agent() -> None:
    assert payload.agent_files().keys() >= payload.EXTRAS


def test_the_zip_holds_every_file_and_no_time() -> None:
    sha256, data = payload.agent_zip()
    assert hashlib.sha256(data).hexdigest() == sha256
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {i.filename: archive.read(i).decode() for i in archive.infolist()} == (
            payload.agent_files()
        )
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
