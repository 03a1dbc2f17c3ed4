"""Where the agent runs: Python 3.9 to 3.13, with libzstd, with the command, with neither."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot import agent_payload as payload
from envboot.agent import wire
from tests.agent.trees import snapshot, write
from tests.userdata.conftest import find_python

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.agent.guests import Guest, Launch

    NewGuest = Callable[[str, Launch], Guest]

VERSIONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]

HIDE = """
empty=$1; shift
for library in LIBRARIES; do mount --bind "$empty" "$library"; done
exec "$@"
"""


@pytest.mark.subprocess
@pytest.mark.sockets
@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_installs_publishes_and_unpacks_without_a_warning(
    launch: Launch, published: Guest, new_guest: NewGuest, version: str
) -> None:
    python = find_python(version)
    for name, source in (("first", "install"), ("second", "archive")):
        guest = new_guest(name, launch)
        guest.python = [python, "-I", "-S", "-bb", "-W", "error"]
        assert guest.boot() == wire.READY, guest.reasons
        assert guest.result["source"] == source
        assert guest.publish() == wire.READY
        assert snapshot(guest.env.resolve()) == snapshot(published.env.resolve())
        assert guest.agent("status") == wire.READY
        assert guest.agent("why", "--json") == wire.READY
        # Reports are answered by nothing; Python 3.9 fills with zeros what it is told to read.
        assert find_memory(guest.start("boot", stdout=subprocess.DEVNULL)) < 2 << 30


def find_memory(process: subprocess.Popen[str]) -> int:
    """Wait for a process; returns the bytes that it, or one that it started, had at most.

    What this process has is counted too: the kernel keeps the maximum over fork and exec.
    """
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == wire.READY
    return used.ru_maxrss << 10


@pytest.fixture
def hide_libzstd(tmp_path: Path) -> list[str]:
    """A command that runs another where `libzstd.so.1` cannot be loaded."""
    if os.geteuid() != 0:
        pytest.skip("a mount name space needs root")
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = [line.split("=> ")[1] for line in listed.splitlines() if "libzstd.so.1" in line]
    assert found, "this machine has a libzstd to hide"
    (tmp_path / "empty").touch()
    script = HIDE.replace("LIBRARIES", " ".join(str(Path(path).resolve()) for path in found))
    return ["unshare", "-m", "sh", "-ec", script, "sh", str(tmp_path / "empty")]


@pytest.mark.subprocess
@pytest.mark.sockets
def test_without_libzstd_the_command_unpacks_and_packs(
    launch: Launch, published: Guest, new_guest: NewGuest, hide_libzstd: list[str]
) -> None:
    code = "import ctypes; ctypes.CDLL('libzstd.so.1')"
    tried = subprocess.run(
        [*hide_libzstd, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "OSError" in tried.stderr
    for name, wrap, source in (
        ("packs", hide_libzstd, "install"),
        ("unpacks", hide_libzstd, "archive"),
        ("unpacks with the library", [], "archive"),
    ):
        guest = new_guest(name, launch)
        guest.wrap = wrap
        assert guest.boot() == wire.READY, guest.reasons
        assert guest.result["source"] == source
        assert guest.publish() == wire.READY
        assert snapshot(guest.env.resolve()) == snapshot(published.env.resolve())


@pytest.fixture
def without_zstd(hide_libzstd: list[str], tmp_path: Path) -> Callable[[Guest], None]:
    """Return what takes libzstd and the command from a machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cp", "head", "mount", "sh", "unshare"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)

    def take(guest: Guest) -> None:
        guest.wrap = hide_libzstd
        guest.environment["PATH"] = str(programs)

    return take


@pytest.mark.subprocess
@pytest.mark.sockets
def test_with_neither_libzstd_nor_the_command_the_environment_is_installed(
    hit: Launch, published: Guest, new_guest: NewGuest, without_zstd: Callable[[Guest], None]
) -> None:
    guest = new_guest("guest", hit)
    without_zstd(guest)
    assert guest.boot() == wire.DEGRADED
    assert guest.result["source"] == "install"
    assert "zstd: a frame holds 0 bytes, not " in guest.reasons
    assert guest.code() == published.code()


@pytest.mark.subprocess
@pytest.mark.sockets
def test_with_neither_of_them_nothing_is_published(
    launch: Launch, new_guest: NewGuest, without_zstd: Callable[[Guest], None]
) -> None:
    guest = new_guest("guest", launch)
    without_zstd(guest)
    assert guest.boot() == wire.READY
    assert guest.publish() == wire.DEGRADED
    assert "No such file or directory: 'zstd'" in guest.events[-1]["MESSAGE"]


@pytest.mark.subprocess
def test_the_source_needs_nothing_later_than_python_3_9() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    folder = str(files("envboot.agent"))
    command = [str(vermin), "--target=3.9-", "--violations", "--eval-annotations", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.subprocess
@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_the_shrunk_agent_imports_the_standard_library_and_itself(
    tmp_path: Path, version: str
) -> None:
    for path, text in payload.agent_files().items():
        write(tmp_path, path, text.encode())
    modules = sorted(Path(path).stem for path in payload.agent_files() if path.startswith("agent/"))
    assert "boot" in modules
    program = (
        "import sys, importlib; sys.path.insert(0, sys.argv[1])\n"
        "for name in sys.argv[2:]: importlib.import_module('agent.' + name)\n"
        "for name, module in sorted(sys.modules.items()):\n"
        "    print(name.split('.')[0], getattr(module, '__file__', None) or '')"
    )
    python = find_python(version)
    names = [name for name in modules if name != "__init__"]
    done = subprocess.run(
        [python, "-I", "-S", "-W", "error", "-c", program, str(tmp_path), *names],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.split(" ")[0] for line in done.stdout.splitlines()}
    assert loaded - sys.stdlib_module_names == {"__main__", "agent"}
    assert "site-packages" not in done.stdout


def test_the_agent_imports_nothing_above_itself() -> None:
    found = set()
    for item in files("envboot.agent").iterdir():
        if not item.name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(item.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add("." * node.level if node.level else str(node.module).split(".")[0])
    assert found - sys.stdlib_module_names == {"."}
