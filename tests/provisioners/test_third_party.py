"""A provisioner of somebody else's, installed as any distribution is."""

from __future__ import annotations

import os
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.errors import Exit
from envboot.indexes.program import find_uv
from tests.index import make_wheel
from tests.launch.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

SOURCE = '''\
"""Runs the user-data script in a directory, by nothing but the protocol."""
import os, shutil, signal, subprocess, time
from envboot.doctor.check import Check
from envboot.errors import ProvisionError
from envboot.userdata import LaunchPath
from envboot_provisioners import Instance, Option, State


class Shed:
    name = "shed"
    is_remote = False
    guest_loopback = "127.0.0.1"
    host_python = True
    ends_instances = False
    role = None
    options = (Option(name="greeting", help="What machines are greeted with.", metavar="TEXT"),)

    def __init__(self, session):
        self._session = session
        self._folder = session.state / "shed"
        self._children = {}

    def check(self, options, *, by_role=False):
        if options.get("greeting") == "rude":
            raise ProvisionError("Cannot greet so", hint="Be kind")
        return None

    def render_for(self, options):
        return LaunchPath.LOCAL

    def is_interruptible(self, options):
        return False

    def place(self, options):
        return {"shed": "behind the house"}

    def start(self, request):
        made = []
        for number in range(request.first, request.first + request.count):
            name = f"{request.launch}-{number}"
            root = self._folder / request.launch / name
            root.mkdir(parents=True)
            (root / "user-data").write_bytes(request.user_data)
            (root / "greeting").write_text(request.options.get("greeting", "none"))
            given = {**self._session.environment, "ENVBOOT_ROOT": str(root)}
            with (root / "console").open("wb") as log:
                child = subprocess.Popen(
                    ["sh", str(root / "user-data")],
                    env={**given, "ENVBOOT_INSTANCE": name},
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root,
                    start_new_session=True,
                )
            self._children[name] = child
            made.append(Instance(name=name, launch=request.launch, folder=root, root=root))
        return made

    def states(self, instances):
        alive = {each.name: self._is_alive(each.name) for each in instances}
        return {name: State.of_process(alive=found) for name, found in alive.items()}

    def _is_alive(self, name):
        child = self._children.get(name)
        return child is not None and child.poll() is None

    def console(self, instance):
        return (instance.folder / "console").read_text()

    def instances(self, launch=None, place=None):
        found = sorted(self._folder.glob(f"{launch or '*'}/*"))
        return [Instance(name=p.name, launch=p.parent.name, folder=p, root=p) for p in found]

    def forget(self, launch):
        pass

    def terminate(self, instances, *, keep=False):
        for each in instances:
            child = self._children.get(each.name)
            if child is not None and child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                child.wait()
            if not keep:
                print("greeted:", (each.folder / "greeting").read_text(), flush=True)
                shutil.rmtree(each.folder)

    def doctor(self, options, *, by_role=False, count=1):
        yield Check(name="shed roof", status="ok", detail=f"Dry, for {count}")
'''
RUN = "import sys; from envboot.cli import main; sys.argv[0] = 'envboot'; main()"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("shed") / "work") as made:
        yield made


@pytest.fixture(scope="module")
def python(workspace: Workspace) -> str:
    """An interpreter with envboot as it is here, and two distributions of others'."""
    venv.create(workspace.folder / "tools", symlinks=True)
    made = workspace.folder / "tools/bin/python"
    (site,) = (workspace.folder / "tools").glob("lib/python*/site-packages")
    here = sysconfig.get_path("purelib")
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, entry, source in (
        ("envboot-shed", "shed = envboot_shed:Shed", SOURCE),
        ("envboot-ruin", "ruin = envboot_ruin:Ruin", "import a_module_that_is_gone\n"),
    ):
        module = name.replace("-", "_")
        files = {
            f"{module}.py": source,
            f"{module}-1.0.dist-info/entry_points.txt": f"[envboot.provisioners]\n{entry}\n",
        }
        wheel = make_wheel(workspace.folder, name, files=files)
        install = ["pip", "install", "-q", "--no-index", "-p", str(made), str(wheel.path)]
        done = workspace.run(find_uv(), *install)
        assert done.returncode == 0, done.stderr
    return str(made)


def envboot(workspace: Workspace, python: str, *words: str) -> subprocess.CompletedProcess[str]:
    # The machines' own `python3` is on PATH, as it is on any machine.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return workspace.run(python, "-c", RUN, *words, PATH=path)


def test_it_launches_with_its_own_options_and_settings(workspace: Workspace, python: str) -> None:
    settings = workspace.folder / "pyproject.toml"
    before = settings.read_text()
    settings.write_text(f'{before}[tool.envboot.shed]\ngreeting = "from the settings"\n')
    words = ["launch", "shed", "--python", str(workspace.python), "--count", "2"]
    try:
        told = envboot(workspace, python, *words, "--", "python", "-c", "import tiny_one, mine")
        given = envboot(workspace, python, *words, "--greeting", "hello", "--", "true")
        rude = envboot(workspace, python, *words, "--greeting", "rude", "--", "true")
    finally:
        settings.write_text(before)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("greeted: from the settings") == 2
    assert given.stdout.count("greeted: hello") == 2, given.stderr
    assert rude.returncode == Exit.PROVISION
    assert "error: Cannot greet so" in rude.stderr
    assert not list(workspace.state.glob("shed/*/*"))


def test_its_doctor_and_its_help_are_its_own(workspace: Workspace, python: str) -> None:
    done = envboot(workspace, python, "doctor", "shed", "--count", "3")
    assert "ok       shed roof          Dry, for 3\n" in done.stdout, done.stderr
    shown = envboot(workspace, python, "launch", "shed", "--help")
    assert "--greeting TEXT" in shown.stdout


def test_one_that_cannot_be_imported_is_named_and_stands_in_nobodys_way(
    workspace: Workspace, python: str
) -> None:
    done = envboot(workspace, python, "launch", "ruin", "--", "true")
    assert done.returncode == Exit.PROVISION
    assert "error: Failed to load provisioner `ruin` of `envboot-ruin`" in done.stderr
    assert "a_module_that_is_gone" in done.stderr
    listed = envboot(workspace, python, "ls")
    assert listed.returncode == 0, listed.stderr
    assert "`ruin` is left out: Failed to load provisioner `ruin`" in listed.stderr
