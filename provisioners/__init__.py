"""Platforms that instances run on, found through the entry-point group `envboot.provisioners`."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bootstrap.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "envboot.provisioners"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One machine of a launch. `name` is unique for ever: `<launch>-<number>`.

    `folder` is its place on this machine, `root` its file system where that can be read.
    """

    name: str
    folder: Path | None = None
    root: Path | None = None
    pid: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to start: the same rendered user-data for every instance.

    `fixed_prefix` says that the environment works at its prefix only (a conda one does).
    """

    launch: str
    count: int
    user_data: bytes
    fixed_prefix: bool
    options: dict[str, str] = field(default_factory=dict)


class Provisioner(Protocol):
    """Makes and ends instances on one platform.

    Instances report through the bucket, so a provisioner only starts them, says whether they
    still run, shows their console and ends them. Errors are `ProvisionError`.
    """

    name: str
    render_for: str
    """The launch path whose limit and encoding the user-data obeys (`bootstrap.userdata`)."""
    guest_loopback: str
    """The name by which an instance reaches the loopback of the machine that launches."""
    host_python: bool
    """Whether a non-conda environment may use this machine's own interpreter."""
    platform: str | None
    """The one platform that its instances can be, None where the user has the choice."""

    def check(self, options: dict[str, str]) -> None:
        """Refuse, before anything is scanned or built, what could never start."""

    def start(self, request: Request) -> list[Instance]:
        """Start every instance, or none: what was started is ended again before raising."""

    def is_running(self, instance: Instance) -> bool:
        """Whether the instance, or anything that it still does for the launch, is alive."""

    def console(self, instance: Instance) -> str:
        """Return what the instance printed so far on its console."""

    def instances(self) -> list[Instance]:
        """Return every instance that was started from this machine and not ended yet."""

    def terminate(self, instances: list[Instance], *, keep: bool = False) -> None:
        """End the instances; with `keep`, leave their folders or disks behind."""


def provisioner_names() -> list[str]:
    """Return the names of the installed provisioners, sorted."""
    return sorted(point.name for point in entry_points(group=GROUP))


def load_provisioner(name: str) -> Provisioner:
    """Return a provisioner by its name.

    Raises:
        UsageError: none of that name is installed.
    """
    for point in entry_points(group=GROUP, name=name):
        made: Provisioner = point.load()()
        return made
    names = ", ".join(f"`{known}`" for known in provisioner_names())
    raise UsageError(f"Unknown provisioner `{name}`", hint=f"Installed are {names}")


def state_folder() -> Path:
    """Return where instances on this machine live: `ENVBOOT_STATE_DIR`, else the user's own."""
    chosen = os.environ.get("ENVBOOT_STATE_DIR")
    if chosen:
        return Path(chosen).absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("envboot"))


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Hold Ctrl-C and its relatives back until the block has ended.

    What a block starts is known only once it is written down: an interrupt between the two would
    leave a process that nobody ends. Signals that are ignored stay so. Only the main thread is
    ever interrupted, so elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, _: waiting.append(number))
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        if waiting:
            signal.raise_signal(waiting[0])
