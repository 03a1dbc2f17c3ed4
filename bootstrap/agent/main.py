"""The agent's commands: what units start (`boot`, `publish`, `run`, `local`), what people type."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import time
import zipfile
from typing import Any, Dict, List

from . import fetch, wire
from .boot import boot, read_documents
from .host import INFO, WARNING, Host, write_json

USAGE = "usage: envboot-agent status|why|rollback [--json]\n"
TAIL = 256 << 10


def main(argv: List[str]) -> int:
    """Run one command and return its exit code."""
    host, word = Host(os.environ.get("ENVBOOT_ROOT", "")), argv[0] if argv else ""
    commands = {"boot": boot, "publish": publish, "run": run_command, "local": run_local}
    if word in commands:
        return commands[word](host)
    if word in ("status", "why", "rollback"):
        return int(load(host, "explain").explain(host, word, "--json" in argv))
    sys.stderr.write(USAGE)
    return 0 if "--help" in argv else 64


def load(host: Host, name: str) -> Any:
    """Import a module that user-data has no room for: the whole agent is in the bucket."""
    folder = os.path.dirname(__file__)
    if not os.path.exists("%s/%s.py" % (folder, name)):
        grant = host.read_json("grants")["agent"]
        data = fetch.read_pinned(grant["get"], grant["sha256"])
        zipfile.ZipFile(io.BytesIO(data)).extractall(os.path.dirname(folder))
    return importlib.import_module("agent." + name)


def publish(host: Host) -> int:
    """Publish what this machine had to install, and fetch what people may ask for later."""
    read_documents(host)
    return int(load(host, "publish").publish(host)) if host.grants else 0


def run_command(host: Host) -> int:
    """Run the user's command in the environment, unprivileged, and report how it ended."""
    read_documents(host)
    command, start = host.config.get("command"), time.monotonic()
    if not command:
        return 0
    environ = {**os.environ, **host.config.get("environment", {})}
    base = host.manifest["base"]
    prefix = base["prefix"] if base.get("conda") else host.link
    environ["PATH"] = prefix + "/bin:" + environ.get("PATH", "/usr/bin:/bin")
    environ["CONDA_PREFIX" if base.get("conda") else "VIRTUAL_ENV"] = prefix
    user: Dict[str, Any] = {}
    if not os.getuid() and not host.root:
        user = {"user": "envboot", "group": "envboot", "extra_groups": []}
    # Packages may come with scripts that activation sources (GDAL_DATA, PROJ_DATA, …).
    script = 'for f in "$0"/etc/conda/activate.d/*.sh; do [ ! -e "$f" ] || . "$f"; done; exec "$@"'
    # By its whole path: PATH is the user's.
    shell = "/bin/bash"
    if not os.path.exists(shell):
        shell = "/bin/sh"
    # NUL stands for the prefix, which the client may not know.
    command = [shell, "-c", script, prefix, *(word.replace("\0", prefix) for word in command)]
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **user
    )
    output = b""
    while process.stdout:
        block = os.read(process.stdout.fileno(), 65536)
        if not block:
            break
        os.write(1, block)
        output = (output + block)[-TAIL:]
    code = process.wait()
    report: Dict[str, Any] = {"exit_code": code, "ms": int(1000 * (time.monotonic() - start))}
    text = "run: %s ended with %d" % (command[4], code)
    host.journal("command-ended", text, WARNING if code else INFO, stage="run", ms=report["ms"])
    write_json(host.state + "/command.json", report)
    report["output"] = output.decode(errors="replace")
    host.report("command", report)
    host.wait_for_reports()
    return code if code >= 0 else 128 - code


def run_local(host: Host) -> int:
    """Do what the units do, in the foreground: boot, then the command while publishing."""
    code = boot(host)
    if code == wire.FAILED:
        return code
    pid = os.fork()
    if not pid:
        os._exit(publish(host))
    try:
        return run_command(host)
    finally:
        os.waitpid(pid, 0)
