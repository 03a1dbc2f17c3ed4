"""Ends this machine: when its time is over, its work is done, or nobody uses it.

Nobody has to reach it for that: whoever launched it may be gone, and it would cost for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any, Dict, List, Tuple

from .host import WARNING, Host, find_text, write_json
from .wire import AgentError, line, parse

# Seconds between two looks; for which all must be over, so that whoever waits comes first; within
# which an environment must be there; between two reports of the same stage; until SIGKILL.
_PAUSE, _SETTLED, _READY, _SLOW, _GRACE = 5.0, 20.0, 3600, 15.0, 10.0
# Load of one minute, in processors, below which a machine does nothing: we are a few thousandths.
_QUIET = 0.1
# Bytes of the journal that tell why a machine never became ready.
_TAIL = 64 << 10
_COMMANDS = ("envboot-run", "envboot-dask-scheduler", "envboot-dask-worker")
_WORKERS = (*_COMMANDS, "envboot-publish", "envboot-results")


def main(host: Host, parent: int = 0) -> int:
    """Look whether this machine has come to its end, until it has, or `parent` ended."""
    # The grants and the config only: `boot` may be fetching the manifest right now.
    host.read_grants()
    host.config = host.read_json("config")
    host.digest = host.config["digest"]
    if "life" not in host.config:
        return 0
    life, told = _Life(host), _Teller(host)
    while not parent or os.getppid() == parent:
        why, text = life.look()
        if why:
            _end(host, why, text)
            return 0
        told.look()
        host.children[:] = [pid for pid in host.children if not os.waitpid(pid, os.WNOHANG)[0]]
        end = time.monotonic() + _PAUSE
        while time.monotonic() < end and (not parent or os.getppid() == parent):
            time.sleep(0.2)
            if life.end and time.time() >= life.end:
                break
    return 0


class _Life:
    """Why and when this machine ends: by the clock of the launch, and by what runs on it."""

    def __init__(self, host: Host) -> None:
        self.host, self.rules = host, host.config["life"]
        born, name = host.read_json("born"), host.instance
        if born.get("instance") != name:
            # An image may have been made of another machine.
            born = {"instance": name, "time": time.time()}
            write_json(host.state + "/born.json", born)
        self.born = float(born["time"])
        self.used = self.over = 0.0
        self.end = self._find_end()

    def _find_end(self) -> float:
        """Return when its time is over (seconds since 1970), 0 where that is never.

        A signed document of the client may have moved it.
        """
        moved, rules = self.host.read_json("moved"), self.rules
        if moved and moved["launch"] == self.host.grants.get("launch"):
            return float(moved["end"])
        return float(rules.get("end", 0) or ("max" in rules and self.born + rules["max"]))

    def look(self) -> Tuple[str, str]:
        """Return why it ends now, in a word and a sentence; empty where it does not."""
        now, rules, host = time.time(), self.rules, self.host
        self.end = self._find_end()
        if self.end and now >= self.end:
            return "max-life", "its time was over"
        if not os.path.lexists(host.link):
            within = rules.get("ready", _READY)
            if now >= self.born + within:
                return "not-ready", "it was not ready within %d s" % within
        elif not host.root and ("done" in rules or "idle" in rules):
            return self._look_at_work(time.monotonic())
        return "", ""

    def _look_at_work(self, now: float) -> Tuple[str, str]:
        states = _find_states(_WORKERS)
        busy = any(state not in ("dead", "exited", "failed", "") for state in states.values())
        ran = any(states.get(name) in ("exited", "failed") for name in _COMMANDS)
        self.over = (self.over or now) if ran and not busy else 0.0
        if "done" in self.rules and self.over and now - self.over >= _SETTLED:
            return "done", "its command was over, and nothing was left to publish"
        if busy or not self.used or os.getloadavg()[0] >= _QUIET or _has_clients():
            self.used = now
        if "idle" in self.rules and now - self.used >= self.rules["idle"]:
            return "idle", "nothing ran on it for %d s" % self.rules["idle"]
        return "", ""


class _Teller:
    """Reports what the machine is doing while nothing else of it reports."""

    def __init__(self, host: Host) -> None:
        self.host, self.due = host, 0.0
        self.last: Dict[str, Any] = {}

    def look(self) -> None:
        """Report the stage where it is another one, or has come farther."""
        host, now = self.host, time.monotonic()
        if host.root:
            # It is read where it is.
            return
        with contextlib.suppress(AgentError, KeyError):
            found = parse(find_text(host.run + "/status.json") or "{}")
            is_new = found and found["stage"] != self.last.get("stage")
            if is_new or (found != self.last and now >= self.due):
                self.last, self.due = found, now + _SLOW
                host.report("stage", {name: found[name] for name in ("stage", "done", "total")})


def _find_states(names: Tuple[str, ...]) -> Dict[str, str]:
    """Return how units are, as `SubState` of systemctl(1), by their names without `.service`."""
    words = ["systemctl", "show", "-p", "Id", "-p", "SubState", *(n + ".service" for n in names)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    states = {}
    for block in done.stdout.decode(errors="replace").split("\n\n"):
        found = dict(text.partition("=")[::2] for text in block.split("\n"))
        states[found.get("Id", "").rpartition(".")[0]] = found.get("SubState", "")
    return states


def _has_clients() -> bool:
    """Whether somebody is connected from elsewhere: by SSH, or to a port that a program opened."""
    pairs: List[Tuple[str, str]] = []
    listening = set()
    for name in ("tcp", "tcp6"):
        for row in find_text("/proc/net/" + name).split("\n")[1:]:
            _, local, other, state = row.split()[:4]
            port = local.rpartition(":")[2]
            if state == "0A":
                listening.add(port)
            # 127.0.0.1 and ::1, in the order of bytes that /proc has: these are not elsewhere.
            elif state == "01" and not other.startswith(("0100007F", "0" * 24 + "01000000")):
                pairs.append((port, other))
    return any(port in listening for port, _ in pairs)


def _end(host: Host, why: str, text: str) -> None:
    """Say why, where it can be read later, and power off; `local` ends its processes instead."""
    report: Dict[str, Any] = {"why": why, "text": text}
    if why == "not-ready":
        report["console"] = _read_journal(host)
    host.journal("stage", "life: this machine ends: " + text, WARNING, stage="life")
    if not host.root:
        print("envboot: this machine ends:", text, flush=True)
    host.report("ended", report)
    host.wait_for_reports()
    if host.root:
        _end_session()
        return
    for more in ([], ["--force"]):
        subprocess.run(["systemctl", "poweroff", *more], check=False)
        # It ends us, too. Something may keep the whole of it from going on.
        time.sleep(300)


def _read_journal(host: Host) -> str:
    words = ["journalctl", "-b", "--no-pager", "-q", "-n", "400", "-o", "short-iso"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return line(error)
    return "" if host.root else done.stdout[-_TAIL:].decode(errors="replace")


def _end_session() -> None:
    """End every other process of our session, as the client knows a `local` machine."""
    own, started = os.getsid(0), time.monotonic()
    number = signal.SIGTERM
    while True:
        others = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                if int(name) != os.getpid() and os.getsid(int(name)) == own:
                    state = find_text("/proc/%s/stat" % name).rpartition(")")[2].split()[0]
                    others += [int(name)] * (state not in "ZX")
        if not others:
            return
        for pid in others:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        if time.monotonic() - started > _GRACE:
            number = signal.SIGKILL
        time.sleep(0.2)
