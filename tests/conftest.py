"""What every test obeys: no process and no socket unless it is marked for them; golden files."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

GOLDEN = Path(__file__).parent / "golden"
# How long an example takes says how busy the machine is.
settings.register_profile("envboot", deadline=None)
settings.load_profile("envboot")
LONGEST = (
    "tests/agent/test_kill.py",
    "tests/boot/test_boot.py",
    "tests/terraform/test_examples.py",
    "tests/boot/",
    "tests/conformance/",
    "tests/cluster/",
    "tests/userdata/test_role_boot.py",
    "tests/launch/test_conda.py",
    "tests/agent/",
    "tests/launch/",
    "tests/docs/",
)
"""What takes minutes, the longest first: what comes last must be short, or workers idle."""
TOGETHER = ("tests/cluster/",)
"""Directories whose files share what takes half a minute to make: one worker runs them all."""


def pytest_configure() -> None:
    """Undo what the shell that started the run has set and what tests must not depend on."""
    # Else every process that a test starts compiles all that it imports anew: 12 s of CPU for
    # `envboot launch gcp`.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # `nohup`, and shells in the background; tests send these signals.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one switch that rewrites golden files."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; files, and what is in them, stay in their order."""

    def rank(item: pytest.Item) -> int:
        found = (at for at, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(found, len(LONGEST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives until the end: a million objects, at each pass."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file together, and of some directories."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((folder for folder in TOGETHER if file.startswith(folder)), file)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the console and the journal of the machines of a test that fails."""
    report = yield
    machines = sys.modules.get("tests.boot.machine")
    if machines:
        if report.failed:
            report.sections += machines.describe_machines()
        if report.when == "teardown":
            machines.BOOTED.clear()
    return report


@pytest.fixture(autouse=True)
def _no_side_doors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid processes and sockets; `subprocess`, `sockets` and `boot` marks allow them."""

    def refuse(mark: str) -> Callable[..., NoReturn]:
        def call(*_: Any, **__: Any) -> NoReturn:
            raise AssertionError(f"this test wants @pytest.mark.{mark}")

        return call

    marks = {mark.name for mark in request.node.iter_markers()}
    if not marks & {"subprocess", "boot", "network"}:
        monkeypatch.setattr(subprocess.Popen, "__init__", refuse("subprocess"))
        monkeypatch.setattr(os, "fork", refuse("subprocess"))
    if not marks & {"sockets", "boot", "network"}:
        monkeypatch.setattr(socket.socket, "connect", refuse("sockets"))
        monkeypatch.setattr(socket.socket, "bind", refuse("sockets"))


@pytest.fixture(scope="session", autouse=True)
def _services_read_once() -> Iterator[None]:
    """Let botocore read what it knows of a service once, not once a client: 0.5 s for EC2."""
    from botocore import loaders

    loader = loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda *_: loader)
        yield


@pytest.fixture(scope="session", autouse=True)
def _agent_shrunk_once() -> None:
    """Let whoever renders in this process have the agent as it was shrunk before: up to 3 s."""
    from envboot.agent_payload import agent_files
    from tests.channel import CACHE

    agent_files(CACHE)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's own cache and state."""
    from tests.cache import make_cache

    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVBOOT_CACHE_DIR", make_cache(folder / "cache"))
        patch.setenv("ENVBOOT_STATE_DIR", str(folder / "state"))
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str | bytes], None]:
    """Return `golden(name, content)`: compare with, or with --update-golden write, a file."""

    def check(name: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        assert file.exists(), f"no golden file {name}: run pytest --update-golden"
        assert data == file.read_bytes(), f"{name} differs: look, then run pytest --update-golden"

    return check
