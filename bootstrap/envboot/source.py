"""What `--from` and its like name: a lock file, a manifest, or a published environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.errors import DocumentError, UsageError
from envboot.files import read_document
from envboot.manifest import Manifest, parse_manifest
from envboot.publish.environments import NAME, find_environment, parse_reference
from envboot.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot.scan.schema import Problem
    from envboot.session import Session
    from envboot.store.protocol import Store

# What is named so is meant as a file, which then is missing.
_FILE = re.compile(r"\.(lock|toml|ya?ml|txt|json)$")


def resolve_source(
    value: str | os.PathLike[str] | Manifest,
    session: Session,
    store: Store | None,
    *,
    warn: Callable[[Sequence[Problem]], None] = lambda _: None,
) -> Selection | Manifest:
    """Return what an environment's name means: a lock file, still to be read, or a manifest.

    `value` is a lock file, a manifest, its file, or a published environment: `NAME@latest`,
    `NAME@3`, or `NAME` where there is no file of that name. None for `store` says that there is
    no bucket. `warn` is told which newer versions were passed over, since they are not trusted.

    Raises:
        UsageError: it is none of them, or there is no bucket to look into.
        DocumentError: a manifest is malformed.
        StoreError: the bucket has no such environment, or refuses.
    """
    if isinstance(value, Manifest):
        return value
    text = os.fspath(value)
    file = session.folder / text
    if not _is_reference(text, file):
        given = Path(text)
        return read_manifest(given, session) if _is_manifest(file) else Selection(lock_file=given)
    reference = parse_reference(text)
    if store is None:
        raise UsageError(
            f"Cannot look for the environment `{reference}` without a bucket",
            hint="Give one: `--store s3://bucket/prefix`",
        )
    return find_environment(store, reference, session, warn=warn)[1]


def read_manifest(file: Path, session: Session) -> Manifest:
    """Read a manifest's file, as seen from the session's directory; errors name it as given.

    Raises:
        UsageError: it cannot be read.
        DocumentError: it is malformed.
    """
    message = f"Cannot read manifest `{file}`"
    try:
        return parse_manifest(read_document(session.folder / file))
    except OSError as error:
        raise UsageError(message, causes=(error.strerror or str(error),)) from error
    except DocumentError as error:
        causes = (error.message, *error.causes)
        raise DocumentError(message, causes=causes, hint=error.hint) from error


def _is_reference(text: str, file: Path) -> bool:
    """Tell whether a published environment is meant: with a version it is, whatever is here."""
    name, separator, _ = text.partition("@")
    if "/" in text:
        return False
    if separator:
        # What no environment can be named is told as such, where it is no file either.
        return bool(NAME.fullmatch(name)) or not file.exists()
    return bool(NAME.fullmatch(name)) and not (file.exists() or _FILE.search(name))


def _is_manifest(file: Path) -> bool:
    """Tell whether a file is a manifest rather than a lock file."""
    try:
        # What is read from a pipe is gone.
        head = read_document(file) if file.is_file() else b""
    except OSError:
        return False  # Whoever reads it as a lock file says what is wrong.
    return head.lstrip()[:1] == b"{" and b'"manifest_version"' in head
