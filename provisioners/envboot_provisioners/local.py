"""Instances that are folders of this machine: the same user-data, the same agent, no root."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING

from envboot.errors import ProvisionError
from envboot.platforms import find_target
from envboot.process import spawn
from envboot.tool_variables import without_settings
from envboot_provisioners import Instance, Option, State
from envboot_provisioners.interrupts import defer_interrupts
from envboot_provisioners.namespaces import check_namespace, find_namespace
from envboot_provisioners.own_machine import check_own_place, find_own_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from envboot.doctor.check import Check
    from envboot.process import Spawned
    from envboot.session import Session
    from envboot.userdata import LaunchPath
    from envboot_provisioners import Options, StartRequest

PLATFORM = find_target(machine())
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE = 10
"""Seconds between SIGTERM and SIGKILL."""
LONGEST_EXEC = 1.0
"""Seconds for which a process whose environment cannot be read yet is looked at."""
UNUSED = 7 * 24 * 3600
"""Seconds after which a copy of an environment that no new instance has taken is removed."""
FULL = 64 << 10
"""With fewer bytes free a file system is taken for full."""
USUAL = 10**9
"""Bytes that an instance with an environment of usual size takes."""


class LocalProvisioner:
    """Runs the agent in a folder below the state folder, one an instance."""

    name = "local"
    is_remote = False
    guest_loopback: str | None = "127.0.0.1"
    host_python = True
    ends_instances = False
    role: str | None = None
    options: tuple[Option, ...] = ()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._children: dict[int | None, Spawned] = {}

    def check(self, options: Options, *, by_role: bool = False) -> str:
        """Refuse nothing, whatever starts here is known to be here; returns our own platform."""
        del options, by_role
        return PLATFORM

    def render_for(self, options: Options) -> LaunchPath:
        """Return `LOCAL`, whatever is asked for."""
        from envboot.userdata import LaunchPath

        del options
        return LaunchPath.LOCAL

    def is_interruptible(self, options: Options) -> bool:
        """Return False: nobody else has a claim on this machine."""
        del options
        return False

    def place(self, options: Options) -> dict[str, str]:
        """Return this host, and the state directory."""
        del options
        return find_own_place(self._session.state)

    def start(self, request: StartRequest) -> list[Instance]:
        """Start one process an instance, in a session of its own.

        Raises:
            ProvisionError: the folder cannot be made, or a conda environment's prefix cannot be
                shown because this machine allows no user name spaces.
        """
        wrapper = find_namespace(self._session.environment) if request.fixed_prefix else []
        instances: list[Instance] = []
        try:
            with defer_interrupts():
                self._start_all(request, wrapper, instances)
        except BaseException as error:
            self.terminate(instances)
            if not isinstance(error, OSError):
                raise
            raise ProvisionError(
                f"Failed to start `{instances[-1].name}` below `{self._session.state}`",
                causes=(error.strerror or str(error),),
                hint="Choose another folder with `ENVBOOT_STATE_DIR`",
            ) from error
        return instances

    def _start_all(
        self, request: StartRequest, wrapper: list[str], instances: list[Instance]
    ) -> None:
        shared = (
            {"ENVBOOT_SHARED": str(_tidy_copies(self._session.state))} if request.shared else {}
        )
        for number in range(request.first, request.first + request.count):
            name = f"{request.launch}-{number}"
            folder = self._session.state / self.name / request.launch / name
            root = folder / "root"
            instances.append(
                Instance(
                    name=name,
                    launch=request.launch,
                    folder=folder,
                    root=root,
                    address=find_address(request.launch, number),
                )
            )
            root.mkdir(parents=True)
            script = folder / "user-data"
            # It carries signed URLs.
            script.touch(mode=0o600)
            script.write_bytes(request.user_data)
            inside = [*wrapper, str(root)] if wrapper else []
            with (folder / "output").open("wb") as output, (folder / "console").open("wb") as log:
                process = spawn(
                    [*inside, "sh", str(script)],
                    environment=_environment(name, root, self._session) | shared,
                    folder=root,
                    stdout=output,
                    stderr=log,
                )
            self._children[process.pid] = process
            instances[-1] = replace(instances[-1], pid=process.pid)
            (folder / "pid").write_text(str(process.pid))

    def instances(
        self, launch: str | None = None, place: Mapping[str, str] | None = None
    ) -> list[Instance]:
        """Return the instances whose folders are still there, running or not.

        Raises:
            UnseenError: there is none, and the place is not this one.
        """
        found = []
        for file in sorted((self._session.state / self.name).glob(f"{launch or '*'}/*/pid")):
            # Another process may be removing it just now.
            with contextlib.suppress(OSError):
                folder, text = file.parent, file.read_text()
                # Empty where the disk was full.
                pid = int(text) or None if text.isdigit() else None
                root = folder / "root"
                name, number = folder.parent.name, folder.name.rpartition("-")[2]
                found.append(
                    Instance(
                        name=folder.name,
                        launch=name,
                        folder=folder,
                        root=root,
                        pid=pid,
                        address=find_address(name, int(number)) if number.isdigit() else None,
                    )
                )
        if launch and place is not None and not found:
            check_own_place(launch, place, self._session.state)
        return found

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return of each instance whether its processes are alive."""
        return {i.name: State.of_process(alive=self.is_running(i)) for i in instances}

    def is_running(self, instance: Instance) -> bool:
        """Whether the agent, its publishing or the command is alive."""
        child = self._children.get(instance.pid)
        if child and child.returncode is None:
            # Not waited for before `terminate`: a zombie keeps its number, and so its session's,
            # from being given to another.
            with contextlib.suppress(ChildProcessError):
                flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
                return os.waitid(os.P_PID, child.pid, flags) is None
        # Another process may have been given the number since.
        return instance.pid is not None and _belongs(instance.pid, {_mark(instance)})

    def console(self, instance: Instance) -> str:
        """Return what agent and script wrote to stderr."""
        if instance.folder is None:
            # It has reported, and was never made here.
            return ""
        try:
            text = (instance.folder / "console").read_text("utf-8", errors="replace")
            # An agent that cannot write cannot say so.
            if shutil.disk_usage(instance.folder).free < FULL:
                text += f"No space is left in `{instance.folder.parent}`\n"
        except FileNotFoundError:
            return f"`{instance.folder}` has been removed"
        return text

    def forget(self, launch: str) -> None:
        """Do nothing: what is over has left no record but its folder."""
        del launch

    def terminate(self, instances: Sequence[Instance], *, keep: bool = False) -> None:
        """End every process of the instances, politely first, and remove their folders."""
        # A process that gave itself a title may have written it over its environment.
        children = [self._children[i.pid] for i in instances if i.pid in self._children]
        sessions = {child.pid for child in children if child.returncode is None}
        start = time.monotonic()
        request = _Request()
        while members := _find_members(instances, sessions):
            waited = time.monotonic() - start
            if waited > 2 * GRACE:
                break
            if waited > GRACE:
                _signal(members, sessions, signal.SIGKILL)
            else:
                request.send(members, sessions)
            time.sleep(0.02)
        for child in children:
            child.poll()  # no zombie is left of it
        for instance in instances:
            if instance.folder and not keep:
                shutil.rmtree(instance.folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    instance.folder.parent.rmdir()

    def doctor(self, options: Options, *, by_role: bool = False, count: int = 1) -> Iterator[Check]:
        """Check that conda environments can be shown at their prefix, and the state directory."""
        from envboot.doctor.state import check_state

        del options, by_role
        yield check_namespace(self._session.environment)
        yield check_state("local disk", self._session.state, each=USUAL, count=count)


def find_address(launch: str, number: int, system: str = sys.platform) -> str:
    """Return the loopback address of an instance, by its number: `127.<launch>.<launch>.<n>`.

    Linux has the whole of 127/8 on its loopback, so every instance can have the same ports as the
    others; no launch has 127.0.0.1, where this machine's own programs listen. Elsewhere that is
    the only one.
    """
    if system != "linux":
        return "127.0.0.1"
    seed = hashlib.sha256(launch.encode()).digest()
    # Neither the first nor the last of 256, which some programs take for a network's own.
    block, place = divmod(number, 254)
    return f"127.{1 + seed[0] % 254}.{(seed[1] + block) % 256}.{1 + place}"


def _tidy_copies(state: Path) -> Path:
    """Return where the copies are that machines share, rid of those that nobody took for a week."""
    folder = state / "environments"
    for mark in folder.glob("*.boot"):
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > UNUSED:
                mark.unlink()
                for copy in folder.glob(f"{mark.stem}*"):
                    if copy.is_dir():
                        shutil.rmtree(copy, ignore_errors=True)
    return folder


def _mark(instance: Instance) -> bytes:
    return b"ENVBOOT_ROOT=" + os.fsencode(instance.root or "")


def _belongs(pid: int, marks: set[bytes]) -> bool:
    """Whether a live process was started with one of the marks in its environment."""
    try:
        return not marks.isdisjoint(_read_environment(Path(f"/proc/{pid}")).split(b"\0"))
    except OSError:
        return False


def _read_environment(process: Path) -> bytes:
    """Return the environment of a process by its directory in /proc.

    In the middle of `exec` a process has neither environment nor command line, which would hide
    it for about a millisecond: that is waited out.
    """
    end = time.monotonic() + LONGEST_EXEC
    while not (found := (process / "environ").read_bytes()):
        # Kernel threads and zombies have no memory (proc(5), statm).
        if (process / "statm").read_bytes().startswith(b"0 ") or time.monotonic() > end:
            break
        if (process / "cmdline").read_bytes():
            # `exec` was over before this look, or there really is no environment.
            return (process / "environ").read_bytes()
        time.sleep(0.001)
    return found


def _find_members(instances: Sequence[Instance], sessions: set[int]) -> set[int]:
    """Return the live processes of instances, whatever became of the ones that started them.

    A process is known by its environment, or, when the command cleared that, by its session;
    `sessions` collects the ones that have proved to be ours.
    """
    marks = {_mark(instance) for instance in instances}
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = {pid for pid in pids - {os.getpid()} if _belongs(pid, marks)}
    sessions |= {i.pid for i in instances if i.pid} & set(map(_find_session, found))
    return found | {pid for pid in pids if sessions and _find_session(pid) in sessions}


class _Request:
    """SIGTERM to every process of the instances, once."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._groups: set[int] = set()
        self._time = 0.0

    def send(self, members: set[int], sessions: set[int]) -> None:
        """Signal those that were not signalled before.

        What a process starts because of the signal is left to finish. What had been started
        before, and left its process group while we looked, is late and not left.
        """
        if not self._time:
            self._time = time.clock_gettime(time.CLOCK_BOOTTIME)
            self._groups = _signal(members, sessions, signal.SIGTERM)
        else:
            for pid in members - self._told:
                with contextlib.suppress(OSError):
                    if _find_start(pid) < self._time and os.getpgid(pid) not in self._groups:
                        os.kill(pid, signal.SIGTERM)
        self._told |= members


def _signal(members: set[int], sessions: set[int], number: signal.Signals) -> set[int]:
    """Send a signal to each process once, and to those forked meanwhile with their group.

    Returns the groups.
    """
    # In a session of ours every group is ours: the agent's own, and the command's. The agent's
    # comes first: it must not report how the command ended.
    groups = dict.fromkeys(sessions)
    for pid in members:
        with contextlib.suppress(OSError):
            if os.getsid(pid) in sessions:
                groups[os.getpgid(pid)] = None
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, number)
    for pid in members:
        with contextlib.suppress(OSError):
            if os.getpgid(pid) not in groups:
                os.kill(pid, number)
    return set(groups)


def _find_start(pid: int) -> float:
    """Return when a process was forked, in seconds of CLOCK_BOOTTIME, rounded up to a tick."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK")


def _find_session(pid: int) -> int | None:
    """Return a live process's session, None for one that ended or is a zombie (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[3])


def _environment(name: str, root: Path, session: Session) -> dict[str, str]:
    """Return the launching environment, without what would lead into another Python one."""
    hidden = (
        "ENVBOOT_SHARED",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHONHOME",
        "PYTHONPATH",
        "NOTIFY_SOCKET",
    )
    # The agent's uv and micromamba would publish for everybody what these say.
    kept = {
        key: value
        for key, value in without_settings(session.environment).items()
        if key not in hidden
    }
    own = {"ENVBOOT_ROOT": str(root), "ENVBOOT_INSTANCE": name, "PYTHONUNBUFFERED": "1"}
    # What is on PATH here must not stand in for what a machine would lack: it is as systemd's,
    # but for the interpreter that runs the agent.
    programs = root.parent / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    cache = {"UV_CACHE_DIR": str(session.cache / "uv")}
    return cache | kept | own | {"PATH": f"{programs}:{PATH}"}
