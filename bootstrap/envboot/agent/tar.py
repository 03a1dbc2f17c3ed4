"""Reads the tar entries of an archive, which `pack` wrote: GNU format.

`tarfile` costs 12 s where this costs 2 (54,754 files): a reader that knows its own writer needs
three system calls a file. Anyone who can write to the bucket may have written the archive, so
nothing in it may lead out of the directory that it is unpacked into.
"""

from __future__ import annotations

import contextlib
import os
from typing import Iterator, Tuple

from .wire import AgentError

BLOCK = 512
DIRECTORY, FILE, LINK = b"5", b"0", b"2"


class Tree:
    """A directory that is written through descriptors: no link in it is ever followed.

    `interpreter` is the one absolute path that a link may have as its target.
    """

    def __init__(self, folder: str, interpreter: str = "") -> None:
        self.interpreter = interpreter
        os.makedirs(folder, 0o755, exist_ok=True)
        # Kept open: a file then costs no more system calls than by its whole path.
        self.open = {"": os.open(folder, os.O_DIRECTORY)}

    def close(self, but: int = 0) -> None:
        """Close the descriptors, except those that were opened first."""
        while len(self.open) > but:
            os.close(self.open.popitem()[1])

    def locate(self, path: str, mode: int = 0) -> Tuple[int, str]:
        """Return the descriptor of the directory that a path is in, and the path's last part.

        Missing directories are made.

        Raises:
            AgentError: the path leads elsewhere, or the mode has more than permissions.
            OSError: a directory cannot be made; a link or a file is in its place.
        """
        check(path, mode)
        above, _, name = path.rpartition("/")
        return self._enter(above), name

    def _enter(self, path: str) -> int:
        if path not in self.open:
            above, _, name = path.rpartition("/")
            at = self._enter(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=at)
            found = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            if len(self.open) > 200:
                # All but the tree itself: most systems let a process have 1,024.
                self.close(1)
            self.open[path] = found
        return self.open[path]

    def write(self, path: str, mode: int, content: memoryview, start: int, whole: int) -> None:
        """Write a file, or the piece of it that begins at `start`: pieces come in any order.

        A file in pieces stays writable, until a write of nothing at 1 gives it its mode.
        """
        folder, name = self.locate(path, mode)
        if len(content) < whole:
            mode = 0o600
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(name, flags, mode, dir_fd=folder)
        try:
            if start or mode & 0o022:
                # umask has taken these bits.
                os.fchmod(descriptor, mode)
            while content:
                written = os.pwrite(descriptor, content, start)
                content, start = content[written:], start + written
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file or a link, if there is one."""
        folder, name = self.locate(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def check(path: str, mode: int = 0) -> None:
    """Raise AgentError unless a path stays below its directory and a mode has permissions only.

    A hundred levels are more than any package has, and few enough to be removed again.
    """
    parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\0" in path or parts[99:] or mode & ~0o1777:
        raise AgentError("not an entry of an archive: %r" % ((path, mode),))


def leads_out(path: str, target: str) -> bool:
    """Tell whether a link may lead out of the tree.

    `..` must come first: behind the name of a directory that is itself a link it leads elsewhere.
    """
    parts = target.split("/")
    above = parts.count("..")
    return target[:1] == "/" or above > path.count("/") or ".." in parts[above:]


def read(data: memoryview) -> Iterator[Tuple[str, bytes, int, int, memoryview, str]]:
    """Yield path, kind, mode, size, the content that is here, and a link's target.

    A file cut by the end of its frame has less content here than its size. Paths, modes and
    targets are as they stand there: `Tree` checks them.

    Raises:
        AgentError: an entry is not of a kind that `pack` writes.
    """
    at, name, link = 0, b"", b""
    while at + BLOCK <= len(data):
        block = bytes(data[at : at + BLOCK])
        at += BLOCK
        if not block[0]:
            continue
        kind = block[156:157]
        try:
            mode, size = int(block[100:107], 8), int(block[124:136].strip(b"\0"), 8)
        except ValueError:
            size = -1
        if size < 0 or kind not in b"052LK":
            raise AgentError("not an entry of an archive: %r" % block[:157])
        content = data[at : at + size]
        at += size + -size % BLOCK
        if kind == b"L":
            name = bytes(content[:-1])
        elif kind == b"K":
            link = bytes(content[:-1])
        else:
            name = name or block[:100].rstrip(b"\0")
            link = link or block[157:257].rstrip(b"\0")
            yield os.fsdecode(name), kind, mode, size, content, os.fsdecode(link)
            name = link = b""


def extract(data: memoryview, tree: Tree, over: bool = False) -> None:
    """Write every entry; with `over` in the place of files that are there, never into them.

    Raises:
        AgentError: an entry leads out of the tree, or cannot be written.
    """
    path = ""
    try:
        for path, kind, mode, size, content, target in read(data):
            if kind == DIRECTORY:
                # Where an entry of its own would be.
                os.fchmod(tree.locate(path + "/-", mode)[0], mode)
                continue
            if over:
                tree.remove(path)
            if kind == FILE:
                tree.write(path, mode, content, 0, size)
            else:
                if leads_out(path, target) and target != tree.interpreter:
                    raise AgentError("not an entry of an archive: %r" % ((path, target),))
                folder, name = tree.locate(path)
                os.symlink(target, name, dir_fd=folder)
    except (OSError, ValueError) as error:
        raise AgentError("%r: %s" % (path, error)) from error
