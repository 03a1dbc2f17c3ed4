"""After a miss: pack the base and put it into the bucket for the next machine."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import shutil
import signal
import time
from typing import Any, BinaryIO, Dict, Iterator

from . import fetch, pack, permit, soundness, wire
from .host import WARNING, Host, write_json
from .wire import AgentError

# Bytes of another's archive that are compared at a time, and of ours that are read back.
PART, ENDING = 8 << 20, 1 << 16


def publish(host: Host) -> int:
    """Publish the base that `boot` kept; returns the exit code. Safe to repeat and to kill."""
    with host.locked("publish"):
        _prune(host)
        base = wire.base_digest(host.manifest)
        tree = permit.find_kept(host)
        if not os.path.isdir(tree):
            return wire.READY
        start, code = time.monotonic(), wire.READY
        fields: Dict[str, Any] = {"stage": "publish"}
        try:
            with _stopped_cleanly():
                fields["bytes"] = _publish(host, tree, base)
            _remove(host, tree)
            if "permit" in host.grants:
                permit.remove(host)
        except (AgentError, OSError, LookupError) as error:
            code, fields["error"] = wire.DEGRADED, wire.line(error)
        fields["ms"] = int(1000 * (time.monotonic() - start))
        if code == wire.READY:
            host.journal("published", "publish: done", **fields)
        else:
            host.journal("publish-failed", "publish: %(error)s" % fields, WARNING, **fields)
        host.report("publish", fields)
        host.show("ready")
        host.wait_for_reports()
        return code


@contextlib.contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as an error does: files go, workers too, and it is told why."""
    owner = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() != owner:
            # A worker: its parent is told as well.
            os._exit(1)
        signal.signal(number, signal.SIG_IGN)
        raise AgentError("interrupted: this machine was told to stop publishing")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _remove(host: Host, tree: str) -> None:
    """Remove a tree; its name goes first, for half a tree must never be taken for a whole one."""
    gone = "%s/.gone.%d.%d" % (host.envs, os.getpid(), time.time_ns())
    os.rename(tree, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _prune(host: Host) -> None:
    """Remove environments that are neither active nor the one to roll back to."""
    links = (host.link, host.opt + "/previous")
    with host.locked("boot"):
        # Here: while this waited another one may have become active.
        wanted = {os.path.basename(os.path.realpath(link)) for link in links}
        for name in os.listdir(host.envs):
            if name not in wanted and name[0] != ".":
                _remove(host, host.envs + "/" + name)


def _publish(host: Host, tree: str, base: str) -> int:
    """Put the archive, then its index; returns the archive's size in bytes."""
    permitted = permit.find(host)
    output = host.state + "/env.tar.zst"

    def done(raw: int, total: int) -> None:
        host.show("publish", raw, total)

    try:
        own = host.manifest["base"]["python"].get("executable", "")
        damaged = soundness.remove_damaged(tree, host.link, own or host.link + "/bin/python")
        if damaged:
            text = "publish: removed %d damaged files of byte code: %s"
            host.journal("stage", text % (len(damaged), damaged[0]), WARNING, stage="publish")
        soundness.refuse_short_files(tree)
        index = pack.write_archive(tree, output, base, own, done=done)
        if host.packed >= 0:
            os.write(host.packed, b".")
        most = permitted.get("max_bytes")
        if most and index["size"] > most:
            raise AgentError("the archive has %d bytes, one PUT takes %d" % (index["size"], most))
        with open(output, "rb") as stream:
            length = {"Content-Length": str(index["size"])}
            if not _put(permitted["archive"], stream, length):
                _compare(host.grants["archive"]["get"], output)
            # Who may not trust what others publish has no URL to read it by.
            if "archive" in host.grants:
                _read_back(host.grants["archive"]["get"], stream)
        document = json.dumps(index).encode()
        is_ours = _put(permitted["index"], document, {})
        # Nobody has signed it yet, without which some may not read it.
        index_grant = "signers" not in host.grants and host.grants.get("index")
        if is_ours and index_grant and fetch.read(index_grant["get"]) != document:
            raise AgentError("the bucket does not have the index that was put into it")
        proof = permitted.get("proof")
        if proof:
            # Whoever made the permit, and nobody else, can tell that this is its machine's.
            mac = hmac.new(proof["key"].encode(), document, "sha256")
            _put(proof, mac.hexdigest().encode(), {})
        # `verify` compares the disk with it.
        write_json(host.state + "/index.json", index)
        return int(index["size"])
    finally:
        if os.path.exists(output):
            os.unlink(output)


def _put(grant: Dict[str, Any], body: object, headers: "dict[str, str]") -> bool:
    """Create an object; False when it is already there."""
    try:
        fetch.send("PUT", grant["url"], body, {**grant["headers"], **headers})
    except AgentError as error:
        if error.reason != "exists":
            raise
        return False
    return True


def _compare(url: str, output: str) -> None:
    """Make sure that the archive in the bucket is ours, before an index is written for it.

    Another machine may be ahead (and writes its own index), or may have died between the two.
    """
    with open(output, "rb") as stream:
        for block in iter(lambda: stream.read(PART), b""):
            start = stream.tell() - len(block)
            # Beyond the end of ours, so that one which goes on is seen.
            span = {"Range": "bytes=%d-%d" % (start, start + PART - 1)}
            if fetch.send("GET", url, None, span) != block:
                raise AgentError("another machine has put a different archive of this base there")


def _read_back(url: str, stream: BinaryIO) -> None:
    """Make sure that the bucket has the archive: a proxy may answer for it, and say 200 too.

    Its end is compared, and that nothing follows.
    """
    size = stream.seek(0, 2)
    start = max(0, size - ENDING)
    stream.seek(start)
    # A range may reach beyond the end.
    theirs = fetch.send("GET", url, None, {"Range": "bytes=%d-%d" % (start, size)})
    if theirs != stream.read():
        raise AgentError("the bucket does not have what was put into it")
