"""Projects that are built with the packages of the environment that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings, parse_settings
from envboot.errors import LayerError, UsageError
from envboot.layer import build_parts, pack_parts
from tests.index import make_wheel
from tests.layer.projects import HOST, VERSION, unpack, write_project
from tests.scan.environments import install, make_venv, site_packages
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.layer import BuiltLayer
    from envboot.scan.schema import Source


def write_needy(folder: Path) -> Source:
    """Write a project whose build imports a package that it does not require."""
    source = write_project(folder, "needy")
    text = (folder / "backend.py").read_text()
    future = "from __future__ import annotations\n"
    program = "import shutil, helper\nassert shutil.which('helper-tool')\n"
    (folder / "backend.py").write_text(text.replace(future, future + program))
    return source


def build(source: Source, venv: Path, cache: Path, *names: str) -> BuiltLayer:
    session = make_session(cache=cache, settings=Settings(no_build_isolation=names))
    python = str(venv / "bin" / "python")
    parts = build_parts([source], session, python=python, version=VERSION, target=HOST)
    layer = pack_parts(parts)
    assert layer
    return layer


@pytest.mark.subprocess
def test_the_environment_supplies_what_the_build_imports_and_runs(
    tmp_path: Path, cache: Path
) -> None:
    venv = make_venv(tmp_path / "venv")
    install(venv, make_wheel(tmp_path, "helper").path)
    tool = venv / "bin" / "helper-tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    source = write_needy(tmp_path / "needy")
    with pytest.raises(LayerError) as error:
        build(source, venv, cache)
    assert '`no-build-isolation = ["needy"]` in `[tool.envboot]`' in (error.value.hint or "")
    first = build(source, venv, cache, "needy")
    assert unpack(first, tmp_path / "out").site("needy/__init__.py") == "NAME = 'needy'\n"
    # It is kept as long as the environment is the same.
    assert build(source, venv, cache, "needy").built == ()
    install(venv, make_wheel(tmp_path, "helper", "2.0").path)
    assert build(source, venv, cache, "needy").built == ("needy",)
    for file in site_packages(venv).glob("helper*.py"):
        file.unlink()
    (tmp_path / "needy" / "needy" / "more.py").write_text("")
    with pytest.raises(LayerError) as error:
        build(source, venv, cache, "needy")
    assert "install its build requirements there" in (error.value.hint or "")


def test_the_setting_and_uvs_own_name_projects_alike() -> None:
    text = (
        '[tool.envboot]\nno-build-isolation = ["Flash_Attn"]\n'
        '[tool.uv]\nno-build-isolation-package = ["detectron2"]\n'
    )
    assert parse_settings(text).no_build_isolation == ("flash-attn", "detectron2")
    with pytest.raises(
        UsageError, match=r"names of packages at `tool\.envboot\.no-build-isolation"
    ):
        parse_settings('[tool.envboot]\nno-build-isolation = ["a b"]\n')
