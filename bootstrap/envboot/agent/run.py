"""Runs the user's command in the environment, and tells what it prints while it does."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import subprocess
import time
from typing import Any, Dict, Iterable, List, Optional, Tuple

from .boot import read_documents
from .host import INFO, WARNING, Host, write_json
from .wire import AgentError, line

# Makes the device files of NVIDIA's GPUs. CUDA has the same set-user-ID program do that on first
# use, which cannot where a command may gain no privileges. 255 is nvidiactl.
DEVICES = """
nvidia-modprobe && nvidia-modprobe -u -c=0
cd /proc/driver/nvidia/gpus &&
  nvidia-modprobe -c=255 $(sed -n 's/^Device Minor:[^0-9]*/-c=/p' */information)
"""
# Seconds between SIGTERM and SIGKILL.
GRACE = 10
# Bytes of a secret that is looked for in the output.
SHORTEST = 8


def main(host: Host) -> int:
    """Run the user's command in the environment, unprivileged, and report how it ended."""
    from .main import load

    host.read_grants()
    if not host.read_json("config").get("command"):
        return 0
    start = time.monotonic()
    output = Output()
    report: Dict[str, Any] = {}
    try:
        if "report" in host.grants:
            with contextlib.suppress(AgentError):
                # Where this has to come from the bucket, and cannot, the journal has the output.
                output.recorder = load(host, "output").Recorder(host)
        if "permit" in host.grants or "put" in host.grants.get("archive", ()):
            load(host, "permit").settle(host)
        word, code = Runner(host).run(output)
        text = "run: %s ended with %d" % (word, code)
    except Exception as error:
        report["error"], code = line(error), 1
        text = "run: not started: " + report["error"]
        print("envboot:", text, flush=True)
    report.update({"exit_code": code, "ms": int(1000 * (time.monotonic() - start))})
    fields = {"stage": "run", "ms": report["ms"], "error": report.get("error", "")}
    host.journal("command-ended", text, WARNING if code else INFO, **fields)
    write_json(host.state + "/command.json", report)
    if output.recorder:
        report.update(output.recorder.end())
    host.report("command", report)
    host.wait_for_reports()
    return code if code >= 0 else 128 - code


class Runner:
    """Runs the command to its end; SIGHUP ends it before that, and starts it anew."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.again = False
        self.process: Optional["subprocess.Popen[bytes]"] = None
        signal.signal(signal.SIGHUP, self._end)
        signal.signal(signal.SIGALRM, self._end)

    def run(self, output: Output) -> Tuple[str, int]:
        """Return the command's first word and its exit code."""
        from .main import load

        host, path = self.host, self.host.run + "/run.pid"
        write_json(path, os.getpid())
        try:
            while True:
                # Anew each time: by now there may be another environment.
                read_documents(host)
                prefix, words, environ, secrets = compose(host)
                output.hide(secrets.values())
                folder = load(host, "work").prepare(host)
                # In a group of its own, which can be ended as one, and in our session, by which
                # `local` knows what is its own.
                process = subprocess.Popen(
                    wrap(prefix, words),
                    env=environ,
                    cwd=folder,
                    stdin=load(host, "seat").open_input(host) if "seat" in host.grants else None,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    preexec_fn=os.setpgrp,
                    **admit_user(host),
                )
                self.process = process
                if self.again:
                    # It came while there was nothing to end.
                    self._end(signal.SIGHUP, None)
                output.pass_on(process)
                code = process.wait()
                if not self.again:
                    return words[0], code
                with contextlib.suppress(OSError):
                    # What has redirected its output may take longer.
                    while True:
                        os.killpg(process.pid, 0)
                        time.sleep(0.05)
                signal.alarm(0)
                self.again, self.process = False, None
                host.journal("stage", "run: starts again", stage="run")
                host.report("restarted", {})
        finally:
            os.unlink(path)

    def _end(self, number: int, _: Any) -> None:
        """End the command's group: with SIGTERM at SIGHUP, and for good at the alarm after it."""
        self.again = True
        if self.process:
            kind = signal.SIGKILL
            if number == signal.SIGHUP:
                kind = signal.SIGTERM
                signal.alarm(GRACE)
            else:
                # Whoever else has the other end, outside of the group: we read no more of it.
                for pipe in _find_pipes(self.process):
                    os.dup2(os.open("/dev/null", 0), pipe)
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, kind)


def compose(host: Host) -> Tuple[str, List[str], Dict[str, str], Dict[str, str]]:
    """Return the prefix, the command's words, its variables, and those of them that are secret.

    Raises:
        AgentError: the machine should have a seat, and there is none for it; or a secret cannot be
            read.
    """
    from .main import load

    prefix, environ = find_environ(host)
    words = list(host.config["command"])
    secrets: Dict[str, str] = {}
    if "seat" in host.grants:
        more, found = load(host, "seat").take(host, environ)
        words += more
        secrets.update(found)
    if "secrets" in host.config:
        secrets.update(load(host, "secret_manager").read(host.config["secrets"]))
    environ.update(secrets)
    if secrets:
        # Variables of the environment give way to these as well.
        environ["ENVBOOT_GIVEN"] = ",".join([environ.get("ENVBOOT_GIVEN", ""), *secrets])
    return prefix, words, environ, secrets


def wrap(prefix: str, words: List[str]) -> List[str]:
    """Return what executes the words as if the environment had been activated."""
    # Packages may come with scripts that activation sources (GDAL_DATA, PROJ_DATA, …).
    script = 'for f in "$0"/etc/conda/activate.d/*.sh; do [ ! -e "$f" ] || . "$f"; done; exec "$@"'
    # By its whole path: PATH is the user's.
    shell = "/bin/bash"
    if not os.path.exists(shell):
        shell = "/bin/sh"
    return [shell, "-c", script, prefix, *words]


def find_environ(host: Host) -> Tuple[str, Dict[str, str]]:
    """Return the prefix, and the variables of what runs in the environment."""
    # A machine that dies loses no more than what was on its way: nothing waits in Python's buffer.
    environ = {"PYTHONUNBUFFERED": "1", **os.environ, **host.config.get("environment", {})}
    base = host.manifest.get("base", {})
    prefix = base["prefix"] if base.get("conda") else host.link
    environ["PATH"] = prefix + "/bin:" + environ.get("PATH", "/usr/bin:/bin")
    environ["CONDA_PREFIX" if base.get("conda") else "VIRTUAL_ENV"] = prefix
    return prefix, environ


def find_user(host: Host) -> Dict[str, Any]:
    """Return by whom the user's programs are run, as `subprocess` takes it."""
    if os.getuid() or host.root:
        return {}
    return {"user": "envboot", "group": "envboot", "extra_groups": []}


def admit_user(host: Host) -> Dict[str, Any]:
    """Make the machine ready for a program of the user's; returns what `find_user` does.

    Raises:
        AgentError: the metadata service cannot be closed to it.
        LookupError: there is no such user.
    """
    user = find_user(host)
    if user:
        if host.config.get("imds") != "allow":
            from .main import load

            load(host, "imds").close(pwd.getpwnam(user["user"]).pw_uid)
        subprocess.run(["/bin/sh", "-c", DEVICES], capture_output=True, check=False)
    return user


def _find_begun(data: bytes, value: bytes) -> int:
    """Return where the end of `data` begins to be `value`: its length where it does not."""
    at = data.find(value[:1], max(0, len(data) - len(value) + 1))
    while at >= 0 and not value.startswith(data[at:]):
        at = data.find(value[:1], at + 1)
    return len(data) if at < 0 else at


def _find_pipes(process: "subprocess.Popen[bytes]") -> Dict[int, int]:
    """Return the descriptors of a process's output: which is stdout (1), and which stderr (2)."""
    pipes = (process.stdout, process.stderr)
    return {pipe.fileno(): number for number, pipe in enumerate(pipes, 1) if pipe}


class Output:
    """What the command prints: passed on at once, and where there is a bucket, recorded for it."""

    def __init__(self) -> None:
        self.recorder: Any = None
        self.hidden: List[bytes] = []
        self.begun = {1: b"", 2: b""}

    def hide(self, secrets: Iterable[str]) -> None:
        """Show these as `***`, but for those that are too short to be told from other words."""
        # Of two that begin alike the longer one is looked for first.
        values = sorted((value.strip().encode() for value in secrets), key=len, reverse=True)
        self.hidden = [value for value in values if len(value) >= SHORTEST]

    def pass_on(self, process: "subprocess.Popen[bytes]") -> None:
        """Pass on what a process prints, until nobody can print any more."""
        pipes, recorder = _find_pipes(process), self.recorder
        while pipes:
            wait = recorder and recorder.wait()
            for pipe in select.select([*pipes], [], [], wait)[0]:
                block, stream = os.read(pipe, 65536), pipes[pipe]
                shown = self._mask(stream, block) if self.hidden else block
                os.write(1, shown)
                if recorder:
                    recorder.add(stream, shown)
                if not block:
                    del pipes[pipe]
            if recorder:
                recorder.close(pipes)

    def _mask(self, stream: int, block: bytes) -> bytes:
        """Return what may be shown by now; an end that may begin a secret waits for what follows.

        An empty block is the end of the output.
        """
        data, shown = self.begun[stream] + block, b""
        while True:
            end = min(_find_begun(data, value) for value in self.hidden) if block else len(data)
            found = [(data.find(value), -len(value)) for value in self.hidden]
            at, size = min([pair for pair in found if pair[0] >= 0], default=(end, 0))
            if at >= end:
                self.begun[stream] = data[end:]
                return shown + data[:end]
            shown, data = shown + data[:at] + b"***", data[at - size :]
