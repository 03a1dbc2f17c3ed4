"""Small trees of files, for whatever is promised about packed ones."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file: its path below the tree, its bytes and its mode."""

    path: str
    content: bytes
    mode: int


# One depth for all: no path is another one's folder.
_PATHS = st.from_regex(r"[a-c]{1,2}/[a-zäA-Z_. -]{1,12}x", fullmatch=True)
# The owner may read: tests need not be root.
_MODES = st.integers(0, 0o7777).map(0o400.__or__)
_FILES = st.builds(File, path=_PATHS, content=st.binary(max_size=1500), mode=_MODES)
TREES = st.lists(_FILES, min_size=1, max_size=6, unique_by=lambda file: file.path)


def variants(file: File) -> list[File]:
    """The same file with its length, its name or one bit of content or mode changed.

    Two bits of the content (the first and the last), and every bit of the mode but the owner's
    right to read and those that would lend rights to whoever runs it, which are never packed.
    """
    content = file.content + b"\0"
    changed = [replace(file, content=content), replace(file, path=f"{file.path}y")]
    if file.content:
        first, last = file.content[0] ^ 1, file.content[-1] ^ 128
        changed.append(replace(file, content=bytes([first]) + file.content[1:]))
        changed.append(replace(file, content=file.content[:-1] + bytes([last])))
    bits = (1 << number for number in range(12))
    fixed = (0o400, 0o2000, 0o4000)
    changed += [replace(file, mode=file.mode ^ bit) for bit in bits if bit not in fixed]
    return changed


def write(root: Path, tree: list[File]) -> str:
    """Write a tree in this order, below a folder that does not exist; returns its path."""
    for file in tree:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    # As the layer's own folders, whatever the umask.
    for folder in (root, *(path for path in root.iterdir() if path.is_dir())):
        folder.chmod(0o755)
    return os.fspath(root)
