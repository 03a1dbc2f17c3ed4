"""Environments with an interpreter of their own: made by micromamba, asked without any rights."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Tuple

from .host import WARNING, Host, find_text
from .install import run_tool, write_lines


def create(host: Host, staging: str) -> Tuple[List[str], str]:
    """Make `staging`/env; returns what runs commands where it is seen at its place, and that place.

    Conda writes the prefix into its files, so micromamba and uv must see the environment at its
    final place: a mount name space of their own shows them `staging` there, and nobody else.

    micromamba installs an explicit list in the order in which it stands. It ignores the exit codes
    of post-link scripts, so whatever appears on stderr becomes a note of the result.

    Raises:
        AgentError: micromamba failed, or the bucket's packages are not what was pinned.
    """
    base = host.manifest["base"]
    conda, prefix = base["conda"], base["prefix"]
    host.show("install: %d conda packages" % len(conda))
    if "packages" in host.grants:
        # What wants a login at its channel comes from the bucket, at `host/path` of its URL.
        from .main import load

        load(host, "private").bring(host, conda, staging + "/home")
    seen = os.path.dirname(prefix)
    os.makedirs(seen, exist_ok=True)
    lines = ["@EXPLICIT"]
    for package in conda:
        url = package["url"]
        file = "/home" + url.split(":/")[-1]
        if os.path.exists(staging + file):
            # micromamba decodes such URLs.
            url = "file://" + seen + file.replace("%", "%25")
        mark = "#sha256:%(sha256)s" if "sha256" in package else "#%(md5)s"
        lines.append(url + mark % package)
    write_lines(staging + "/home/conda", lines)
    # With -q micromamba would not say why it failed; its progress on stdout is of no use.
    script = 'mount --bind "$0" "$1" && shift && exec "$@" 2>&1 >/dev/null'
    inside = ["unshare", "-m", "sh", "-ec", script, staging, seen]
    options = ["create", "--no-rc", "--no-pyc", "-y", "-p", prefix, "-f", seen + "/home/conda"]
    said = run_tool("micromamba", [*inside, seen + "/home/micromamba", *options], seen)
    if said:
        host.notes.append(said[-900:])
        host.journal("stage", "micromamba: " + said[-900:], WARNING)
    # It has the time and the command line, with which no two machines would pack the same bytes.
    write_lines(staging + "/env/conda-meta/history", [])
    return inside, seen


def ask(host: Host, program: str, code: str) -> str:
    """Return what an interpreter prints that may have come from the bucket: nobody runs it.

    Whoever is root in a name space for one user cannot become another, and need not.

    Raises:
        AgentError: it failed, or took longer than a minute.
    """
    user: Dict[str, Any] = {}
    if not os.getuid() and find_text("/proc/self/uid_map").split()[2:] != ["1"]:
        user = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
        # The way to the prefix is open to all, that to the folder of a launch may not be.
        place = os.path.dirname(host.manifest["base"]["prefix"])
        program = place + program[len(host.opt) :]
    # What it prints, and for how long, is not known.
    script = 'timeout -k9 60 "$0" -IBSc "$1" 2>&1 | head -c999'
    return run_tool("python", ["sh", "-c", script, program, code], "/nonexistent", **user)
