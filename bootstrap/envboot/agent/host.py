"""The machine as the agent sees it: its folders, its journal, its service manager, its bucket.

With a root other than `` every path is below it and the journal is a file there: this is how
the `local` provisioner and the tests run without being root.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import socket
import struct
import time
from typing import Any, Dict, Iterator, List

from . import fetch, wire

INFO, WARNING, ERROR = 6, 4, 3


def find_text(path: str) -> str:
    """Return a file's text, stripped; empty where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def write_json(path: str, document: Any, mode: int = 0o644) -> None:
    """Write a document whole or not at all."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path + ".new", flags, mode), "w", encoding="utf-8") as stream:
        json.dump(document, stream)
    os.replace(path + ".new", path)


class Host:
    """Paths, and every way in which the agent tells what it does."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.opt = root + "/opt/envboot"
        self.link = self.opt + "/env"
        self.envs = self.opt + "/envs"
        self.state = root + "/var/lib/envboot"
        self.run = root + "/run/envboot"
        self.grants: Dict[str, Any] = {}
        self.config: Dict[str, Any] = {}
        self.manifest: Dict[str, Any] = {}
        self.digest = ""
        self.stages: List[Dict[str, Any]] = []
        self.errors: List[Dict[str, Any]] = []
        self.notes: List[str] = []
        self.children: List[int] = []
        self.shown = 0.0
        # Whoever waits until the base is packed reads at the other end.
        self.packed = -1
        self.boot_id = find_text("/proc/sys/kernel/random/boot_id")
        # The name that this machine reports under; a start-up script keeps it where we do.
        name = os.environ.get("ENVBOOT_INSTANCE") or find_text(self.state + "/instance")
        name = name or find_text("/var/lib/cloud/data/instance-id")
        self.instance = (name or socket.gethostname()).replace("/", "-")
        for folder in (self.envs, self.state, self.run):
            os.makedirs(folder, 0o755, exist_ok=True)

    def read_grants(self) -> None:
        """Read what this launch may do in the bucket, and with whose signature."""
        self.grants = self.read_json("grants")
        if "auth" in self.grants:
            signer = importlib.import_module("." + self.grants["auth"]["kind"], __package__).Signer
            if not isinstance(fetch.exchange, signer):
                fetch.exchange = signer(self.grants, fetch.exchange)

    def read_json(self, name: str) -> Dict[str, Any]:
        """Return a document of the state folder, empty where there is none; or AgentError."""
        return wire.parse(find_text(self.state + "/" + name + ".json") or "{}")

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep other agents of this machine out; the kernel lets go when the process ends."""
        with open(self.state + "/" + name + ".lock", "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Dict[str, Any]]:
        """Time one stage; what is put into the yielded dict joins its journal record."""
        fields: Dict[str, Any] = {"stage": name, "bytes": 0}
        start, level = time.monotonic(), INFO
        self.show(name)
        try:
            yield fields
        except Exception as error:
            level = WARNING
            fields["error"] = wire.line(error)
            raise
        finally:
            fields["ms"] = int(1000 * (time.monotonic() - start))
            self.stages.append(fields)
            text = fields.get("error") or fields.get("source") or "done"
            self.journal("stage", "%s: %s, %d ms" % (name, text, fields["ms"]), level, **fields)

    def show(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Show progress, in `systemctl status` and status.json, at most ten times a second."""
        now = time.monotonic()
        if 0 < done < total and now - self.shown < 0.1:
            return
        self.shown = now
        document = {"stage": stage, "environment": self.digest, "done": done, "total": total}
        write_json(self.run + "/status.json", document)
        self.notify(stage + (" %d of %d MB" % (done >> 20, total >> 20) if total else ""))

    def notify(self, status: str, more: str = "") -> None:
        """Tell the service manager (sd_notify(3))."""
        address = os.environ.get("NOTIFY_SOCKET")
        if address:
            # Each line is an assignment.
            text = more + "STATUS=" + wire.line(status)
            self._datagram(address.replace("@", "\0"), text.encode())

    def _datagram(self, address: str, data: bytes) -> None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with link, contextlib.suppress(OSError):
            link.sendto(data, address)

    def journal(self, kind: str, text: str, level: int = INFO, **fields: Any) -> None:
        """Write one record: a line of events.jsonl, and systemd's journal where there is one."""
        fields["digest"] = self.digest
        record = {
            "MESSAGE": wire.line(text),
            "MESSAGE_ID": wire.MESSAGE_IDS[kind],
            "PRIORITY": level,
            "SYSLOG_IDENTIFIER": "envboot",
            **{"ENVBOOT_" + name.upper(): value for name, value in fields.items()},
        }
        with open(self.state + "/events.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({**record, "time": time.time()}) + "\n")
        data = b""
        for name, value in record.items():
            content = str(value).encode()
            data += b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(content)), content)
        if not self.root:
            self._datagram("/run/systemd/journal/socket", data)

    def report(self, event: str, document: Any) -> None:
        """Put a small report into the bucket, in a process of its own: nothing waits for it."""
        if "report" not in self.grants:
            return
        pid = os.fork()
        if pid:
            self.children.append(pid)
            return
        try:
            key = "events/%s/%d-%s.json" % (self.instance, 1000 * time.time(), event)
            fetch.post(self.grants["report"], key, json.dumps(document).encode())
        except Exception as error:
            self.journal("stage", "report: %s" % error, WARNING)
        finally:
            os._exit(0)

    def wait_for_reports(self) -> None:
        """Wait until every report is in the bucket, or has failed."""
        while self.children:
            os.waitpid(self.children.pop(), 0)
