"""Two sessions of one process do not reach into each other, and variables steer no tool."""

from __future__ import annotations

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from envboot.prepare import prepare, resolve
from envboot.selection import Selection
from tests.index import make_wheel, serve_folder, write_simple
from tests.layer.projects import commit_all, write_project
from tests.scan.environments import make_venv, run
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.prepare import Prepared
    from envboot.session import Session

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """A user's directory, with an environment from an index of its own and loose code."""

    name: str
    index: str
    session: Session

    def file(self, name: str) -> Path:
        return self.session.folder / name


def make_desk(stack: ExitStack, root: Path, name: str, **variables: str) -> Desk:
    """Make everything below `root`, `demo` of the index differs by the desk's name."""
    folder, index = root / "work", root / "index"
    for each in (folder, index):
        each.mkdir(parents=True)
    make_wheel(index, "demo", text=f"NAME = {name!r}\n")
    write_simple(index)
    url = stack.enter_context(serve_folder(index))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONPATH": "beside",
        "UV_CACHE_DIR": str(root / "uv"),
        "UV_DEFAULT_INDEX": f"{url}/simple",
        "VIRTUAL_ENV": "venv",
        **variables,
    }
    venv = make_venv(folder / "venv")
    pip: list[str | Path] = [find_uv_bin(), "pip", "install", "-q", "--no-config"]
    pip += ["--cache-dir", root / "uv"]
    run(*pip, "--python", venv / "bin" / "python", "--default-index", f"{url}/simple", "demo")
    (folder / "beside").mkdir()
    (folder / "beside" / "helper.py").write_text(f"NAME = {name!r}\n")
    (folder / "script.py").write_text(f"import demo, helper\nNAME = {name!r}\n")
    session = make_session(
        folder=folder,
        environment=environment,
        cache=root / "cache",
        state=root / "state",
    )
    return Desk(name=name, index=url, session=session)


@pytest.fixture
def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Desk, Desk]]:
    """Two users' directories, while the process itself is elsewhere and has other settings."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("script.py", "helper.py"):
        (elsewhere / name).write_text("NAME = 'elsewhere'\n")
    (elsewhere / "uv.toml").write_text("no-index = true\n")
    (elsewhere / "lock.txt").write_text("nothing==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with ExitStack() as stack:
        found = tuple(make_desk(stack, tmp_path / name, name) for name in ("one", "two"))
        monkeypatch.chdir(elsewhere)
        for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(elsewhere))
        monkeypatch.setenv("PYTHONPATH", str(elsewhere))
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("VIRTUAL_ENV", str(elsewhere))
        monkeypatch.delenv("CONDA_PREFIX", raising=False)
        one, two = found
        yield one, two


def prepare_here(session: Session) -> Prepared:
    command = ["python", "script.py"]
    return prepare(Selection(), session, host_python=True, command=command)


def test_two_sessions_at_once_see_each_its_own_folder_environment_and_index(
    desks: tuple[Desk, Desk],
) -> None:
    with ThreadPoolExecutor(2) as pool:
        prepared = list(pool.map(lambda desk: prepare_here(desk.session), desks))
    for desk, found in zip(desks, prepared, strict=True):
        assert found.scan
        assert found.scan.interpreter.prefix == str(desk.file("venv"))
        (wheel,) = found.manifest.base.wheels
        assert (wheel.name, wheel.url and wheel.url.startswith(desk.index)) == ("demo", True)
        assert found.layer
        brought = {file.source for file in found.layer.code.files}
        assert brought == {str(desk.file("script.py")), str(desk.file("beside/helper.py"))}
        assert found.layer.path.is_relative_to(desk.session.cache)
        assert found.command[1] == "script.py"
        assert not found.notes or "127.0.0.1" in found.notes[0].subject
    one, two = (found.manifest for found in prepared)
    assert one.base.wheels[0].sha256 != two.base.wheels[0].sha256
    assert one.layer
    assert two.layer
    assert one.layer.digest != two.layer.digest


def test_a_lock_file_is_read_from_its_sessions_folder(desks: tuple[Desk, Desk]) -> None:
    for desk in desks:
        (wheel,) = prepare_here(desk.session).manifest.base.wheels
        desk.file("lock.txt").write_text(f"demo==1.0 --hash=sha256:{wheel.sha256}\n")
        selection = Selection(lock_file=Path("lock.txt"), python="venv")
        locked = resolve(selection, desk.session, host_python=True).locked
        assert [each.sha256 for each in locked.base.wheels] == [wheel.sha256]


STEERING = {
    "GIT_DIR": "/nowhere",
    "GIT_INDEX_FILE": "/nowhere/index",
    "GIT_WORK_TREE": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "UV_BUILD_CONSTRAINT": "/nowhere/constraints.txt",
    "UV_CONSTRAINT": "/nowhere/constraints.txt",
    "UV_OVERRIDE": "/nowhere/overrides.txt",
    "UV_PROJECT": "/nowhere",
    "UV_PYTHON": "2.6",
    "UV_VENV_SEED": "1",
    "UV_WORKING_DIRECTORY": "/nowhere",
}


def test_variables_that_steer_the_tools_change_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "path.zip", "w") as archive:
        # Python would end at once wherever this is on its path.
        archive.writestr("sitecustomize.py", "import os\nos._exit(7)\n")
    with ExitStack() as stack:
        desk = make_desk(stack, tmp_path / "desk", "desk")
        folder = desk.session.folder
        upstream = tmp_path / "upstream"
        write_project(upstream, "remote")
        commit_all(upstream)
        write_project(tmp_path / "local", "local", files={"local/__init__.py": "", "x.log": ""})
        (tmp_path / "local" / ".gitignore").write_text("*.log\n")
        commit_all(tmp_path / "local")
        (folder / ".gitignore").write_text("venv/\nsecret.py\n")
        (folder / "secret.py").write_text("")
        commit_all(folder)
        pip = [find_uv_bin(), "pip", "install", "-q", "--no-index", "--no-config"]
        sources = [str(tmp_path / "local"), f"git+{upstream.as_uri()}"]
        run(*pip, "--python", folder / "venv" / "bin" / "python", *sources)

        def bring(cache: str, **variables: str) -> Prepared:
            environment = {**desk.session.environment, "PYTHONPATH": "", **variables}
            return prepare_here(
                make_session(folder=folder, environment=environment, cache=tmp_path / cache)
            )

        wanted = bring("first")
        found = bring("second", **STEERING, PYTHONPATH=str(tmp_path / "path.zip"))
    assert {wheel.name for wheel in wanted.manifest.base.wheels} == {"demo"}
    assert wanted.layer
    assert [project.name for project in wanted.layer.manifest.projects] == ["local", "remote"]
    assert {Path(file.source).name for file in wanted.layer.code.files} == {
        "helper.py",
        "script.py",
    }
    assert found.manifest.to_bytes() == wanted.manifest.to_bytes()
    assert [note for note in found.notes if note not in wanted.notes] == [
        note for note in found.notes if note.subject == str(tmp_path / "path.zip")
    ]
