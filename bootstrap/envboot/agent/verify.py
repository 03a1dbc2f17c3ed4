"""Compares the active environment with what was activated: every file's content, mode and link.

The archive in the bucket is read again, by the index that root kept when the environment became
active. Nothing of the environment is run, and no link in it is followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

from . import fetch, pack, tar, unpack, wire, zstd
from .boot import read_documents
from .host import Host
from .wire import AgentError

SAME, DIFFERS, UNKNOWN = 0, 1, 2
# Of each kind of difference, in text; `--json` has all.
SHOWN = 20


class Entry(NamedTuple):
    """What is at a path of the disk."""

    kind: bytes
    mode: int
    size: int
    target: str
    owner: int


def verify(host: Host, argv: List[str]) -> int:
    """Print what differs, and return 0 for nothing, 1 for something, 2 where none can tell."""
    document: Dict[str, Any] = {}
    try:
        document = compare(host)
        code = DIFFERS if document["differences"] else SAME
    except (AgentError, OSError, LookupError) as error:
        document["error"], code = wire.line(error), UNKNOWN
    if "--json" in argv:
        print(json.dumps(document, indent=2))
    elif code == UNKNOWN:
        sys.stderr.write("envboot: Cannot verify the environment: %(error)s\n" % document)
    else:
        print("\n".join(_lines(document)))
    return code


def compare(host: Host) -> Dict[str, Any]:
    """Return the digests of what was compared, the number of files, and each difference.

    A difference has `path`, `kind` (`changed`, `missing`, `extra`), `what` (`content`, `mode`,
    `type`, `target`, `owner`) where it is changed, and `package` where that is known.

    Raises:
        AgentError: there is no record of the archive, or the bucket does not have it any more.
    """
    try:
        read_documents(host)
    except LookupError:
        raise AgentError("no environment was activated on this machine") from None
    base = wire.base_digest(host.manifest)
    index = host.read_json("index")
    if index.get("base") != base:
        raise AgentError(
            "this machine neither fetched nor published the archive of its base, so nothing says"
            " what was activated"
        )
    unpack.check_index(index, base)
    env = os.path.realpath(host.link)
    digest = "sha256:" + os.path.basename(env).split(".")[0]
    found = Comparison(env)
    layer = find_layer(host, digest)
    if layer:
        found.compare(layer)
    # What a layer has stands in the place of the base's.
    ours = frozenset(found.expected)
    for data in _read_archive(host, index):
        found.compare(data, ours)
    for row in index["frames"]:
        if row[5:] and row[5] not in ours:
            found.check_mode(row[5], row[8])
    found.find_extras()
    found.name_packages()
    return {
        "environment": digest,
        "base": base,
        "files": len(found.expected),
        "differences": sorted(found.differences, key=lambda each: str(each["path"])),
    }


def find_layer(host: Host, digest: str) -> bytes:
    """Return the tar of an environment's layer, empty where it has none.

    Raises:
        AgentError: nothing says which one, or the bucket has another.
    """
    layer: Any = host.manifest.get("layer")
    url = host.grants.get("layer", {}).get("get")
    if digest != host.digest:
        sent = host.read_json("sent").get(digest)
        if not sent:
            raise AgentError("this machine has no record of the layer of the active environment")
        layer, url = sent["layer"], sent["get"]
    if not layer:
        return b""
    data = b"".join(map(bytes, zstd.decode_all(fetch.read(url))))
    if "sha256:" + hashlib.sha256(data).hexdigest() != layer["digest"]:
        raise AgentError("the layer in the bucket is not what was activated")
    return data


def _read_archive(host: Host, index: Dict[str, Any]) -> Iterator[Any]:
    """Yield each frame's tar, or (path, offset, content) of a large file's piece.

    Raises:
        AgentError: the bucket has another archive, or none.
    """
    for group in unpack.spans(index, 1):
        size = sum(row[1] for row in group)
        data, at = fetch.read(host.grants["archive"]["get"], group[0][0], size), 0
        for offset, packed, raw, sha256, _, *piece in group:
            frame, at = data[at : at + packed], at + packed
            if hashlib.sha256(frame).hexdigest() != sha256:
                raise AgentError(
                    "the archive in the bucket is another one: its frame at byte %d is not what"
                    " was activated" % offset
                )
            content = zstd.decode(frame, raw)
            yield (piece[0], piece[1], content[: piece[2]]) if piece else content


class Comparison:
    """A prefix on the disk, and what was found different in it so far."""

    def __init__(self, env: str) -> None:
        self.env = env
        self.expected: Set[str] = set()
        self.differences: List[Dict[str, str]] = []
        self.disk = dict(read_disk(env))

    def compare(self, data: Any, but: "frozenset[str]" = frozenset()) -> None:
        """Compare the entries of a tar, or the piece of a file, except those paths."""
        if isinstance(data, tuple):
            path, at, content = data
            if path not in but and self._find(path, tar.FILE):
                self._compare_content(path, content, at)
            return
        for path, kind, mode, size, content, target in tar.read(memoryview(data)):
            if path in but or not self._find(path, kind):
                continue
            if kind == tar.LINK:
                self._compare_target(path, target)
                continue
            if len(content) == size:
                # That of a file in pieces is in the index.
                self.check_mode(path, mode)
            if kind == tar.FILE and self.disk[path].size != size:
                self._tell(path, "changed", "content")
            elif kind == tar.FILE:
                self._compare_content(path, content, 0)

    def check_mode(self, path: str, mode: int) -> None:
        """Compare permissions; set-user-ID bits are never right."""
        if path in self.disk and self.disk[path].mode != mode:
            self._tell(path, "changed", "mode")

    def _find(self, path: str, kind: bytes) -> bool:
        is_new, entry = path not in self.expected, self.disk.get(path)
        self.expected.add(path)
        if entry is None or entry.kind != kind:
            if is_new:
                self._tell(path, "changed" if entry else "missing", "type")
            return False
        if is_new and entry.owner != os.geteuid():
            self._tell(path, "changed", "owner")
        return True

    def _compare_target(self, path: str, target: str) -> None:
        found = self.disk[path].target
        with contextlib.suppress(AgentError):
            if found != target and tar.leads_out(path, found):
                # As it was packed, where this machine installed it.
                found = pack.confine(self.env, path, found)
        if found != target:
            self._tell(path, "changed", "target")

    def _compare_content(self, path: str, content: Any, at: int) -> None:
        """Compare what a file has from an offset on."""
        descriptor = os.open(self.env + "/" + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            stream.seek(at)
            is_same = stream.read(len(content)) == content
        if not is_same:
            self._tell(path, "changed", "content")

    def find_extras(self) -> None:
        """Add what is on the disk and in neither archive nor layer, and directories' modes."""
        above = {path[:at] for path in self.expected for at in _slashes(path)}
        for path, entry in self.disk.items():
            if path in self.expected:
                continue
            if path not in above:
                self._tell(path, "extra")
            elif entry.kind != tar.DIRECTORY:
                self._tell(path, "changed", "type")
            elif (entry.mode, entry.owner) != (0o755, os.geteuid()):
                self._tell(path, "changed", "mode" if entry.mode != 0o755 else "owner")

    def name_packages(self) -> None:
        """Add the packages of what differs, as far as the records that are here know them."""
        owners: Dict[str, str] = {}
        if self.differences:
            # They may be what was changed.
            with contextlib.suppress(Exception):
                owners = pack.find_owners(self.env)
        for each in self.differences:
            if owners.get(each["path"]):
                each["package"] = owners[each["path"]]

    def _tell(self, path: str, kind: str, what: str = "") -> None:
        found = {"path": path, "kind": kind}
        if kind == "changed":
            found["what"] = what
        if found not in self.differences[-1:]:
            # The pieces of one file come one after another.
            self.differences.append(found)


def _slashes(path: str) -> Iterator[int]:
    at = path.find("/")
    while at >= 0:
        yield at
        at = path.find("/", at + 1)


def read_disk(env: str) -> Iterator[Tuple[str, Entry]]:
    """Yield every path below a prefix, relative, with what is there; no link is followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in os.scandir(env + "/" + folder):
            path, info = folder + entry.name, entry.stat(follow_symlinks=False)
            mode = stat.S_IMODE(info.st_mode)
            target, kind = "", b"?"
            if stat.S_ISLNK(info.st_mode):
                kind, target = tar.LINK, os.readlink(env + "/" + path)
            elif stat.S_ISDIR(info.st_mode):
                kind = tar.DIRECTORY
                waiting.append(path + "/")
            elif stat.S_ISREG(info.st_mode):
                kind = tar.FILE
            yield path, Entry(kind, mode, info.st_size, target, info.st_uid)


def _lines(document: Dict[str, Any]) -> List[str]:
    lines: List[str] = []
    for kind in ("changed", "missing", "extra"):
        rows = [each for each in document["differences"] if each["kind"] == kind]
        for row in rows[:SHOWN]:
            what = " (%s)" % row["what"] if "what" in row else ""
            package = ", of %s" % row["package"] if "package" in row else ""
            lines.append("%-8s %s%s%s" % (kind, wire.line(row["path"]), what, wire.line(package)))
        if rows[SHOWN:]:
            lines.append("%-8s %d more" % (kind, len(rows) - SHOWN))
    summary = (document["files"], len(document["differences"]))
    return [*lines, "%d paths compared, %d differences" % summary]
