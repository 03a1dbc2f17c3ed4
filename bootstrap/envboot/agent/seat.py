"""A machine's seat in its launch: its rank, the others' addresses, and what only it may know."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Dict, List, Tuple

from . import fetch
from .host import WARNING, Host, find_text, write_json
from .wire import AgentError, parse

# Seats are written when the last machine of a launch has been started. In seconds: for how long
# they are waited for, and the pause between two looks at first and at most.
PATIENCE, FIRST, LONGEST = 600, 0.05, 3.0
# Where secrets are kept for a restart of the command, below `/run/envboot`.
MEMORY = "/secrets.json"
# The same, for as long as this process runs the command.
_passed: Dict[str, str] = {}


def find_seat(host: Host) -> Dict[str, Any]:
    """Return this machine's seat: the one that it has kept, or else the bucket's.

    Its members are `rank`, `words`, `count`, `peers`, `address`, and `environment`, which is
    secret: the bucket has that until this machine has it. `secrets` are the names of variables
    whose values are in memory, and on no disk.

    Raises:
        AgentError: there are no seats, none for this machine, or its secret cannot be read.
    """
    mine = {"launch": host.grants["launch"], "instance": host.instance}
    kept: Dict[str, Any] = host.read_json("seat")
    known, names = mine.items() <= kept.items(), kept.get("secrets", [])
    if known and (not names or _recall(host, names)):
        return kept
    document = _wait_for_seats(host)
    seat = document["seats"].get(host.instance)
    if seat is None:
        names = ", ".join(sorted(document["seats"])) or "nobody"
        raise AgentError("no seat for %s, there are some for %s" % (host.instance, names[:300]))
    secret = seat.pop("secret", None)
    kept = {**seat, **mine, "count": document["count"], "peers": document["peers"]}
    kept["stdin"] = document.get("stdin", [])
    kept["environment"] = {}
    _passed.clear()
    if secret:
        kept["environment"], found = _read_secret(secret, names if known else [])
        _passed.update(found)
    kept["secrets"] = sorted(_passed)
    if _passed and not host.root:
        write_json(host.run + MEMORY, {**mine, "secrets": _passed}, 0o600)
    # What is removed from the bucket must have reached the disk: the next boot needs it, too.
    _keep(host.state + "/seat.json", kept)
    if secret and "delete" in secret:
        try:
            fetch.send("DELETE", secret["delete"], None, {})
        except AgentError as error:
            if error.reason != "missing":
                host.journal("stage", "seat: the secret is still there: %s" % error, WARNING)
    host.report("seated", {"rank": kept["rank"], "count": kept["count"]})
    return kept


def take(host: Host, environ: Dict[str, str]) -> Tuple[List[str], Dict[str, str]]:
    """Set the variables that tell a command its seat.

    Returns the words that are appended to it, and the secrets that its user passed to it.

    Raises:
        AgentError: this machine has no seat.
    """
    seat = find_seat(host)
    peers, rank = seat["peers"], seat["rank"]
    found = {
        "ENVBOOT_RANK": str(rank),
        "ENVBOOT_COUNT": str(seat["count"]),
        "ENVBOOT_PEERS": ",".join(peers) if all(peers) else "",
        "ENVBOOT_ADDRESS": seat.get("address") or [*peers[rank : rank + 1], ""][0] or "",
    }
    for name, value in found.items():
        # What is not known is not what a launch around this one has left either.
        environ.pop(name, None)
        if value:
            environ[name] = value
    environ.update(seat["environment"])
    return seat["words"], _passed


def open_input(host: Host) -> int:
    """Return the descriptor of what the command reads on stdin: what was sent, or nothing.

    Raises:
        AgentError: what was sent cannot be read.
    """
    pieces, path = find_seat(host).get("stdin", []), host.state + "/stdin"
    if not pieces:
        return os.open("/dev/null", os.O_RDONLY)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        for piece in pieces:
            stream.write(fetch.read(piece["get"], sha256=piece["sha256"]))
    return os.open(path, os.O_RDONLY)


def read_seats(data: bytes) -> Dict[str, Any]:
    """Read a launch's seats; AgentError unless each has what a command is given."""
    document = parse(data)
    seats, peers = document.get("seats"), document.get("peers")
    if (
        not isinstance(seats, dict)
        or not isinstance(peers, list)
        or type(document.get("count")) is not int
        or not all(peer is None or isinstance(peer, str) for peer in peers)
        or not all(map(_is_seat, seats.values()))
        or not _is_input(document.get("stdin", []))
    ):
        raise AgentError("not the seats of a launch: %.99r" % document)
    return document


def _is_input(pieces: Any) -> bool:
    return isinstance(pieces, list) and all(
        isinstance(piece, dict)
        and isinstance(piece.get("get"), str)
        and isinstance(piece.get("sha256"), str)
        for piece in pieces
    )


def _is_seat(seat: Any) -> bool:
    if not isinstance(seat, dict):
        return False
    words, secret = seat.get("words"), seat.get("secret", {"get": ""})
    return (
        type(seat.get("rank")) is int
        and seat["rank"] >= 0
        and isinstance(words, list)
        and all(isinstance(word, str) for word in words)
        and isinstance(seat.get("address", ""), str)
        and isinstance(secret, dict)
        and isinstance(secret.get("get"), str)
        and isinstance(secret.get("delete", ""), str)
    )


def read_secret(data: bytes) -> List[Dict[str, str]]:
    """Read the variables of one machine, and those that are for no disk; or AgentError."""
    with contextlib.suppress(AgentError):
        document = parse(data)
        found: List[Any] = [document.get("environment"), document.get("secrets", {})]
        if all(
            isinstance(each, dict) and all(isinstance(text, str) for text in each.values())
            for each in found
        ):
            return found
    # Not shown: it is secret.
    raise AgentError("not a secret of a seat")


def _wait_for_seats(host: Host) -> Dict[str, Any]:
    end, pause = time.monotonic() + PATIENCE, FIRST
    while True:
        try:
            return read_seats(fetch.read(host.grants["seat"]["get"]))
        except AgentError as error:
            # What is not there yet is denied to those who may not list the bucket.
            if error.reason not in ("missing", "forbidden", "unreachable"):
                raise
            if error.reason == "forbidden" and "agent" in host.grants:
                # Who may read what was there before may read this, which therefore is missing.
                fetch.read(host.grants["agent"]["get"], 0, 1)
            if time.monotonic() > end:
                text = "no seats within %d s: whoever launches has to write them; %s"
                raise AgentError(text % (PATIENCE, error)) from error
        time.sleep(pause)
        pause = min(LONGEST, 1.3 * pause)


def _recall(host: Host, names: List[str]) -> bool:
    """Find the secrets that this machine has in memory; False once it was restarted."""
    if not _passed and not host.root:
        # A file of tmpfs (file-hierarchy(7)), for the next process of the unit. On `local` there is
        # none: there this is a directory of the user's disk.
        found = parse(find_text(host.run + MEMORY) or "{}")
        if found.get("launch") == host.grants["launch"]:
            _passed.update(found["secrets"])
    return sorted(_passed) == names


def _read_secret(secret: Dict[str, str], names: List[str]) -> List[Dict[str, str]]:
    try:
        return read_secret(fetch.read(secret["get"]))
    except AgentError as error:
        if names:
            text = "%s: secrets are kept in memory only, and this machine has restarted since"
            raise AgentError(text % ", ".join(names)) from error
        # It is removed by who reads it first, and that should have been this machine.
        text = "the secret of this seat cannot be read, or somebody else has: %s"
        raise AgentError(text % error) from error


def _keep(path: str, document: Dict[str, Any]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path + ".new", flags, 0o600), "w") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".new", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
