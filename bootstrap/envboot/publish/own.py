"""What this user's own launches have published, known again by a secret of the state directory.

A machine that may publish is given a key of its own for that (`publish.permits`), in the object
that is gone before a command starts. What it then leaves beside the index can be made by nobody
who has not had that key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.publish.layout import Keys
    from envboot.session import Session
    from envboot.store.protocol import Store

MOST_PROOFS = 100
"""Proofs beside one index that are looked at: the newest ones."""
PROOF = 64
"""Characters of a proof: an HMAC-SHA256 in hexadecimal digits."""


def remember(session: Session, keys: Keys, index: bytes) -> None:
    """Let an index count as this user's own from now on."""
    file = _known(session, keys, index)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def is_known(session: Session, keys: Keys, index: bytes) -> bool:
    """Tell whether an index is remembered as this user's own."""
    return _known(session, keys, index).exists()


def _known(session: Session, keys: Keys, index: bytes) -> Path:
    base = keys.base.rpartition("/")[2]
    return session.state / "trust" / base / hashlib.sha256(index).hexdigest()


def key_proof(keys: Keys, launch: str, first: int) -> str:
    """Return where machines of a launch leave the proof that they made an index."""
    return f"{keys.base}/proofs/{launch}-{first}.txt"


def make_proof_key(session: Session, place: str) -> str:
    """Return the key that proves one object, which only this user can make again."""
    return hmac.new(_read_secret(session), place.encode(), "sha256").hexdigest()


def mark(data: bytes, session: Session) -> str:
    """Return what this user alone can put beside a document, and recognise."""
    return hmac.new(make_proof_key(session, "names").encode(), data, "sha256").hexdigest()


def find_proof(session: Session, store: Store, keys: Keys, index: bytes) -> bool:
    """Tell whether a machine of this user's left the proof that it made an index.

    Raises:
        StoreError: the bucket cannot be read.
    """
    stats = sorted(store.list(f"{keys.base}/proofs/"), key=lambda stat: stat.modified)
    for stat in stats[-MOST_PROOFS:]:
        found = store.read(stat.key) if stat.size == PROOF else None
        wanted = hmac.new(make_proof_key(session, stat.key).encode(), index, "sha256")
        if found and hmac.compare_digest(found, wanted.hexdigest().encode()):
            return True
    return False


def _read_secret(session: Session) -> bytes:
    """Return this user's own secret, which never leaves the state directory."""
    file = session.state / "trust.key"
    if not file.exists():
        # Made by whoever comes first, whole: it may not be read before it is.
        session.state.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"trust.key.{secrets.token_hex(4)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
        try:
            # Of two who come first both then read the same.
            os.link(new, file)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return file.read_bytes()
