"""What the units do, where there are none: `local` instances, and machines without systemd."""

from __future__ import annotations

import fcntl
import os
import time

from .boot import boot
from .host import Host, find_text, write_json
from .main import load, publish
from .wire import FAILED


def main(host: Host) -> int:
    """Boot, then run the command.

    While it runs this machine uploads, and follows what is wanted.
    """
    ours, shared = os.getpid(), os.environ.get("ENVBOOT_SHARED")
    code = _boot_shared(host, shared) if shared else boot(host)
    if code == FAILED:
        return code
    reader, host.packed = os.pipe()
    publishing = os.fork()
    if not publishing:
        os._exit(publish(host))
    os.close(host.packed)
    try:
        if any(name.startswith("publish-") for name in os.listdir(host.opt)):
            # The command is the same user, and may write to the files that are being packed.
            os.read(reader, 1)
        if "wanted" in host.grants and not os.fork():
            os._exit(load(host, "sync").main(host, ours))
        if "life" in host.config and not os.fork():
            os._exit(load(host, "life").main(host, ours))
        made = "output" in host.read_json("config")
        return int(load(host, "results" if made else "run").main(host))
    finally:
        os.waitpid(publishing, 0)


def _boot_shared(host: Host, folder: str) -> int:
    """Boot with the copy that is in `folder`, or put the one that this machine brings there.

    What one of the machines writes into it, all others see. A copy of an earlier boot of the host
    does not count: it may have lost its contents with the power.
    """
    name = host.read_json("config")["digest"][7:]
    copy, mine = folder + "/" + name, host.envs + "/" + name
    os.makedirs(folder, exist_ok=True)
    with open(copy + ".lock", "a") as lock:
        # Whoever comes first brings it, and the others wait instead of doing the same.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if find_text(copy + ".boot") == host.boot_id and os.path.isdir(copy):
            os.utime(copy + ".boot")
            if not os.path.lexists(mine):
                os.symlink(copy, mine)
                write_json(host.state + "/unsynced.json", host.boot_id)
        else:
            return _bring(host, copy, mine)
    return boot(host)


def _bring(host: Host, copy: str, mine: str) -> int:
    code = boot(host)
    if code != FAILED and os.path.isdir(mine) and not os.path.islink(mine):
        if os.path.exists(copy):
            # Of an earlier boot: whoever still has it open keeps it.
            os.rename(copy, "%s.%d" % (copy, time.time_ns()))
        os.rename(mine, copy)
        os.symlink(copy, mine)
        with open(copy + ".boot", "w") as stream:
            stream.write(host.boot_id)
    return code
