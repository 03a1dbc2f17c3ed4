"""What the probe has found so far, and how it reads files."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 18
SITES = ("site-packages", "dist-packages")


class Owner:
    """The conda package that put a metadata folder there, and how large its RECORD was then."""

    __slots__ = ("package", "size")

    def __init__(self, package: str, size: int | None) -> None:
        self.package = package
        self.size = size


class Environment:
    """Everything found so far.

    `owners` are conda's metadata folders by their real path, `files` the file lists of conda's
    records as they stand in them, `records` the RECORDs of site-packages with their directory.
    `provided` are the top-level names of projects of this machine, `folders` those of the path
    with the names in them that nothing installed. `variables` and `activation` are what conda sets
    and sources as it activates the environment.
    """

    def __init__(self) -> None:
        self.conda: list[dict[str, Any]] = []
        self.owners: dict[str, Owner] = {}
        self.files: list[bytes] = []
        self.distributions: dict[str, dict[str, Any]] = {}
        self.provided: dict[str, list[str]] = {}
        self.sizes: list[dict[str, Any]] = []
        self.folders: list[dict[str, Any]] = []
        self.records: list[tuple[str, bytes]] = []
        self.problems: list[dict[str, Any]] = []
        self.variables: dict[str, str] = {}
        self.activation: list[str] = []

    def report(self, subject: str, message: str) -> None:
        """Add a problem."""
        self.problems.append({"subject": subject, "message": message})


def read(path: str) -> bytes:
    """Return a file's bytes; `os.read` costs a third of `open`, and stops short only at the end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = chunk = os.read(descriptor, _CHUNK)
        while len(chunk) == _CHUNK:
            chunk = os.read(descriptor, _CHUNK)
            data += chunk
        return data
    finally:
        os.close(descriptor)


def find(path: str) -> bytes | None:
    """Return a file's bytes, None where there is none."""
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_name(name: str) -> bool:
    """Return whether a normalised name is one that PEP 508 allows: all other tools rely on it."""
    return re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None


def normalise(name: str) -> str:
    """Return a distribution's name after PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
