"""The directory that a command runs in: the machine's own copy of the one it was launched from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from typing import Dict, List

from .host import Host, find_text, write_json
from .wire import AgentError, line

SENT = "lib/envboot/work"
"""Below the prefix: what was sent of the launch directory. It is on `sys.path`, too."""


def prepare(host: Host) -> str:
    """Bring the working directory up to date with the active environment; returns its path.

    This is done as the command's user, who owns everything there: root must not follow a link
    that a command has left.

    Raises:
        AgentError: a file cannot be written.
    """
    from .run import find_user

    home = host.root + "/home/envboot"

    def fill() -> None:
        try:
            update(os.path.realpath(host.link), home)
        except Exception as error:
            os.write(2, line(error).encode())
            os._exit(1)

    with host.locked("work"):
        # subprocess has changed the user before it calls `fill`.
        done = subprocess.run(
            ["true"], preexec_fn=fill, stderr=subprocess.PIPE, check=False, **find_user(host)
        )
    if done.returncode:
        raise AgentError("working directory: " + done.stderr.decode())
    return home + "/work"


def update(env: str, home: str) -> None:
    """Copy what an environment brought into `home`/work, once for each environment.

    Only what differs from the environment before is written or removed: files that the command
    made stay, and so does what it wrote into a file that was sent and is the same as before.
    """
    folder, listing = home + "/work", home + "/.work.json"
    os.makedirs(folder, exist_ok=True)
    known = json.loads(find_text(listing) or '{"files": {}}')
    if known.get("environment") == os.path.basename(env):
        return
    old: Dict[str, str] = known["files"]
    sent = env + "/" + SENT + "/"
    new = {}
    for path in find_files(sent):
        with open(sent + path, "rb") as stream:
            new[path] = hashlib.sha256(stream.read()).hexdigest()
    for path in old:
        if path not in new:
            _remove(folder, path)
    for path, digest in new.items():
        if old.get(path) != digest:
            target = folder + "/" + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            # Whole or not at all: the command may be reading it.
            shutil.copy(sent + path, target + ".envboot")
            os.replace(target + ".envboot", target)
    write_json(listing, {"environment": os.path.basename(env), "files": new})


def find_files(folder: str) -> List[str]:
    """Return the files below a directory, without byte code.

    The prefix's byte code is never checked against its source, and here the source may change.
    """
    return sorted(
        os.path.relpath(place + "/" + name, folder)
        for place, _, names in os.walk(folder)
        if os.path.basename(place) != "__pycache__"
        for name in names
    )


def _remove(folder: str, path: str) -> None:
    """Remove a file with the byte code beside it, and the directories that are empty then.

    An empty directory could still be imported, as a namespace package.
    """
    place = os.path.dirname(folder + "/" + path)
    shutil.rmtree(place + "/__pycache__", ignore_errors=True)
    with contextlib.suppress(OSError):
        os.unlink(folder + "/" + path)
        while place != folder:
            os.rmdir(place)
            place = os.path.dirname(place)
