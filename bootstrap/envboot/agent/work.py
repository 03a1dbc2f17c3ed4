"""The directory that a command runs in: the machine's own copy of the one it was launched from."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
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
    with host.locked("work"):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                if find_user(host):
                    import pwd

                    user = pwd.getpwnam("envboot")
                    os.setgroups([])
                    os.setgid(user.pw_gid)
                    os.setuid(user.pw_uid)
                os.umask(0o022)
                update(os.path.realpath(host.link), home)
            except BaseException as error:
                os.write(writer, line(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as stream:
            error_text = stream.read().decode()
        os.waitpid(pid, 0)
    if error_text:
        raise AgentError("working directory: " + error_text)
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
    new = {path: _digest("%s/%s/%s" % (env, SENT, path)) for path in find_files(env + "/" + SENT)}
    for path in old:
        if path not in new:
            _remove(folder, path)
    for path, digest in new.items():
        if old.get(path) != digest:
            source, target = "%s/%s/%s" % (env, SENT, path), folder + "/" + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            # Whole or not at all: the command may be reading it.
            shutil.copy(source, target + ".envboot")
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


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _remove(folder: str, path: str) -> None:
    """Remove a file with its byte code, and the directories that are empty then.

    An empty directory could still be imported, as a namespace package.
    """
    place, name = os.path.split(folder + "/" + path)
    cached = glob.escape("%s/__pycache__/%s" % (place, name.partition(".")[0])) + ".*.pyc"
    with contextlib.suppress(OSError):
        for each in [folder + "/" + path, *glob.glob(cached)]:
            os.unlink(each)
        if os.path.isdir(place + "/__pycache__"):
            os.rmdir(place + "/__pycache__")
        while place != folder:
            os.rmdir(place)
            place = os.path.dirname(place)
