"""Notices of the cloud: a spot machine that is taken back, one that is likely to be."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .host import WARNING, Host, write_json
from .run import admit_user, find_environ
from .wire import AgentError, line

# EC2 asks to look every five seconds: two minutes are left after the first notice.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
PAUSE = 5
INTERRUPTION = "spot-interruption"
NOTICES = {
    INTERRUPTION: "spot/instance-action",
    "rebalance": "events/recommendations/rebalance",
}
# Compute Engine takes a Spot machine back thirty seconds after its word, and moves others.
# https://docs.cloud.google.com/compute/docs/metadata/predefined-metadata-keys
GOOGLE = {INTERRUPTION: "instance/preempted", "maintenance": "instance/maintenance-event"}
QUIET = ("", "NONE", "FALSE")
Running = List[Tuple["subprocess.Popen[bytes]", Dict[str, Any]]]


def main(host: Host) -> int:
    """Look for notices until this is stopped; each runs the user's hook once."""
    # The grants and the config only: `boot` may be fetching the manifest right now.
    host.read_grants()
    host.config = host.read_json("config")
    host.digest = host.config["digest"]
    look, trouble = _find_look(host), ""
    running: Running = []
    host.notify("watching for notices")
    while True:
        try:
            for kind, found in look():
                _take(host, kind, found, running)
            trouble = ""
        except (AgentError, ValueError) as error:
            if trouble != line(error):
                trouble = line(error)
                print("watch:", trouble, flush=True)
        end = time.monotonic() + PAUSE
        while time.monotonic() < end:
            time.sleep(0.2)
            running = [hook for hook in running if not _is_over(host, *hook)]
            host.children[:] = [pid for pid in host.children if not os.waitpid(pid, os.WNOHANG)[0]]


def _find_look(host: Host) -> Callable[[], Iterator[Tuple[str, Dict[str, str]]]]:
    """Return what yields the notices that this machine's cloud gives now."""
    if host.config.get("watch", {}).get("kind") == "gcp":
        from . import gcp

        server = gcp.Metadata()
        return lambda: _look_at_google(host, server)
    from . import aws

    service = aws.Metadata()
    return lambda: _look_at_ec2(service)


def _look_at_ec2(metadata: Any) -> Iterator[Tuple[str, Dict[str, str]]]:
    """Yield what EC2 says, with its own time."""
    for kind, path in NOTICES.items():
        text = metadata.find(path)
        if text:
            yield kind, json.loads(text)


def _look_at_google(host: Host, metadata: Any) -> Iterator[Tuple[str, Dict[str, str]]]:
    """Yield what is not quiet, with the time at which it was first seen: none is told."""
    for kind, path in GOOGLE.items():
        word, seen = metadata.find(path).strip().upper(), host.read_json("notices")
        if word not in QUIET:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            action = "migrate" if word.startswith("MIGRATE") else "terminate"
            yield kind, {"action": action, "time": seen.get(kind) or now}
        elif seen.pop(kind, ""):
            # The next one is another.
            write_json(host.state + "/notices.json", seen)


def _take(host: Host, kind: str, found: Dict[str, str], running: Running) -> None:
    """Tell of a notice, and act on it, unless that has been done already."""
    notice = {"notice": kind, "time": found.get("time") or found.get("noticeTime", "")}
    if "action" in found:
        notice["action"] = found["action"]
    seen = host.read_json("notices")
    if seen.get(kind) == notice["time"]:
        return
    # First: a hook that brings the machine down must not run again when it is back.
    write_json(host.state + "/notices.json", {**seen, kind: notice["time"]})
    text = "notice: %(notice)s at %(time)s" % notice
    _tell(host, text, notice)
    host.notify(text)
    if kind == INTERRUPTION and not host.root:
        stop = ["systemctl", "stop", "--no-block", "envboot-publish.service"]
        subprocess.run(stop, check=False)
    hook = host.config.get("watch", {}).get("hook")
    if hook:
        host.manifest = host.read_json("manifest")
        _, environ = find_environ(host)
        # What only this instance's command has: a hook may have to speak for it.
        environ.update(host.read_json("seat").get("environment", {}))
        environ.update({"ENVBOOT_NOTICE": kind, "ENVBOOT_NOTICE_TIME": notice["time"]})
        command = ["/bin/sh", "-c", hook]
        try:
            process = subprocess.Popen(command, env=environ, **admit_user(host))
        except (AgentError, OSError, LookupError, subprocess.SubprocessError) as error:
            _tell(host, "notice: the hook does not start: %s" % error, {**notice, "exit_code": 127})
        else:
            running.append((process, notice))


def _is_over(host: Host, process: "subprocess.Popen[bytes]", notice: Dict[str, Any]) -> bool:
    """Report the end of a hook, once there is one."""
    code = process.poll()
    if code is not None:
        _tell(host, "notice: the hook ended with %d" % code, {**notice, "exit_code": code})
    return code is not None


def _tell(host: Host, text: str, notice: Dict[str, Any]) -> None:
    # Only `time` is taken: of the record itself.
    fields = {("notice_time" if name == "time" else name): notice[name] for name in notice}
    host.journal("notice", text, WARNING, stage="watch", **fields)
    print(text, flush=True)
    host.report("notice", notice)
