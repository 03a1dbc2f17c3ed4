"""Files that hold credentials: by their directory, their name, or how their content begins."""

from __future__ import annotations

import ast
import fnmatch
import re
import zipfile
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, TypeAlias

from envboot.errors import LayerError
from envboot.toml import read_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Read: TypeAlias = "Callable[[int], bytes]"
"""Reads so many bytes from the beginning of a file."""


class Reason(Enum):
    """Why a file counts as one that holds credentials; the value begins a message."""

    NAME = "Not sent (credential files; name one exactly in `include` to send it):"
    CONTENT = "Not sent (files with a private key; name one exactly in `include` to send it):"


_HEAD = 8 << 10
_MOST = 1 << 20
"""How much of a bundle of certificates is searched for a key; the largest ones have 300 kB."""

_MODULES = (".py", ".pyc", ".pyd", ".pyi", ".pyx", ".pxd", ".so")

# Text about keys, and code that works with them, has some for examples.
_PROSE = (*_MODULES, ".c", ".h", ".html", ".ipynb", ".js", ".md", ".rst", "metadata", "pkg-info")

_PRIVATE = re.compile(
    rb"[ \t]*(-----BEGIN [A-Z0-9 ]*PRIVATE KEY|---- BEGIN SSH2 (ENCRYPTED )?PRIVATE KEY"
    rb"|PuTTY-User-Key-File-|SSH PRIVATE KEY FILE FORMAT|AGE-SECRET-KEY-"
    rb"|untrusted comment: .*secret key)"
)
# Every beginning has one of these: to search for them first is 50 times as fast.
_HINTS = (b"PRIVATE KEY", b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-", b"secret key")
_PRIVATE_LINE = re.compile(rb"^" + _PRIVATE.pattern, re.MULTILINE)
_PUBLIC = re.compile(
    rb"^(-----BEGIN |---- BEGIN SSH2 PUBLIC KEY|(ssh|ecdsa|sk-ssh|sk-ecdsa)-\S+ AAAA)",
    re.MULTILINE,
)
# Certificates and public keys in DER are sequences that begin with one, and private keys begin with
# a version; but for encrypted ones, which name their algorithm first (PKCS #5 and #12).
_DER_SEQUENCE = rb"\x30(?:\x82..|\x81.|[\x00-\x7f])"
_DER_PUBLIC = re.compile(
    _DER_SEQUENCE + _DER_SEQUENCE + rb"(?!\x06.\x2a\x86\x48\x86\xf7\x0d\x01[\x05\x0c])", re.DOTALL
)
# What Google's libraries call application default credentials, and OAuth clients of programs.
_GOOGLE = (
    re.compile(
        rb'"type"\s*:\s*"(service_account|authorized_user|external_account_authorized_user)"'
    ),
    re.compile(rb'"(private_key|refresh_token|client_secret)"\s*:\s*"'),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """`credential-files.toml`, as patterns over names in lower case."""

    places: re.Pattern[str]
    names: re.Pattern[str]
    keys: re.Pattern[str]
    stems: re.Pattern[str]
    formats: frozenset[str]
    templates: frozenset[str]


def find_reason(paths: Iterable[str], read: Read) -> Reason | None:
    """Say why a file may hold credentials; None where nothing says so.

    `paths` are its names, relative and with slashes: a link's own, and what it leads to. A module
    is never judged by its name, and a public key's only by what is in it.
    """
    table = _read_table()
    known = [path.lower() for path in paths]
    if any(_is_by_name(path, table) for path in known):
        return Reason.NAME
    data = read(_HEAD)
    if b"-----BEGIN " in data:
        # The key may come behind a chain of certificates.
        data = read(_MOST)
    is_key_file = any(table.keys.fullmatch(path.rpartition("/")[2]) for path in known)
    return _judge_content(known, data, is_key_file=is_key_file)


def find_credentials(wheel: Path) -> list[str]:
    """Return the files in a wheel that may hold credentials.

    Raises:
        LayerError: it is no sound wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:

            def read(name: str, size: int) -> bytes:
                with archive.open(name) as stream:
                    return stream.read(size)

            names = [member.filename for member in archive.infolist() if not member.is_dir()]
            return [name for name in names if find_reason((name,), partial(read, name))]
    except Exception as error:
        # zipfile, its decompressors and the disk each raise their own.
        raise LayerError(f"Failed to read `{wheel.name}`", causes=(str(error),)) from error


def _is_by_name(path: str, table: _Table) -> bool:
    folder, _, name = path.rpartition("/")
    if name.endswith(".pub"):
        return False
    if table.places.search(f"/{folder}/"):
        return True
    words = re.split(r"[._-]", name)
    if name.endswith(_MODULES) or not table.templates.isdisjoint(words):
        return False
    if table.names.fullmatch(name):
        return True
    stem, dot, ending = name.rpartition(".")
    if not stem:
        # No ending, or nothing but one: `token`, `.secrets`.
        stem, dot = name, ""
    if dot and ending not in table.formats:
        return False
    return bool(table.stems.fullmatch(stem)) or "secrets" in folder.split("/")


def _judge_content(paths: Sequence[str], data: bytes, *, is_key_file: bool) -> Reason | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        # Text that PowerShell has redirected.
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if any(hint in data for hint in _HINTS):
        is_prose = any(path.endswith(_PROSE) for path in paths)
        if _PRIVATE.match(data.lstrip()) or (not is_prose and _PRIVATE_LINE.search(data)):
            return Reason.CONTENT
    if data.lstrip().startswith(b"{") and all(pattern.search(data) for pattern in _GOOGLE):
        return Reason.CONTENT
    if is_key_file and data and not _PUBLIC.search(data) and not _DER_PUBLIC.match(data):
        return Reason.NAME
    return None


def holds_values(path: str, read: Read) -> bool:
    """Whether a module is called as files of secrets are, and has values in it and no code."""
    folder_and_stem, _, ending = path.lower().rpartition(".")
    stem = folder_and_stem.rpartition("/")[2]
    if ending != "py" or not _read_table().stems.fullmatch(stem):
        return False
    try:
        tree = ast.parse(read(_MOST))
    except (SyntaxError, ValueError):
        return False
    code = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return not any(isinstance(node, code) for node in ast.walk(tree)) and any(
        isinstance(node, (ast.Assign, ast.AnnAssign)) and _has_text(node.value)
        for node in tree.body
    )


def _has_text(value: ast.expr | None) -> bool:
    """Whether a literal holds text; what is looked up or called for is none."""
    try:
        found = ast.literal_eval(value) if value else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return bool(found) and re.search("['\"]", repr(found)) is not None


@cache
def _read_table() -> _Table:
    document = read_data("credential-files.toml")
    places = "|".join(re.escape(place) for place in document["places"])
    return _Table(
        places=re.compile(f"/({places})/"),
        names=_compile(document["names"]),
        keys=_compile(document["keys"]),
        stems=_compile(document["stems"]),
        formats=frozenset(document["formats"]),
        templates=frozenset(document["templates"]),
    )


def _compile(globs: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs), re.DOTALL)
