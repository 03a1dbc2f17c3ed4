"""Signatures of SSH keys, by OpenSSH's own ssh-keygen (ssh-keygen(1), `-Y sign` and `-Y verify`).

Keys in an agent, hardware keys and certificates work as they do for git.
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from envboot.agent.keygen import LARGEST, MOST, NAMESPACE
from envboot.config import is_public_key
from envboot.errors import UsageError
from envboot.process import Completed, run

if TYPE_CHECKING:
    from envboot.session import Session

PATIENCE = 60
"""Seconds that a verification may take."""
_HINT = "Install OpenSSH's client 8.2 or later (`openssh-client`, `openssh-clients`)"


def sign(data: bytes, key: str, session: Session) -> bytes:
    """Return an armoured signature of `data`; ssh-keygen may ask for a passphrase or a touch.

    `key` is the file of a private key, or of a public one whose private half an agent has, or
    that public key itself.

    Raises:
        UsageError: nothing was signed, in ssh-keygen's words.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, message = key, Path(folder, "message")
        if is_public_key(key):
            file = str(Path(folder, "key.pub"))
            Path(file).write_text(f"{key}\n", "utf-8")
        message.write_bytes(data)
        # In our session: on its terminal a person is asked for a passphrase.
        done = _keygen(["sign", "-n", NAMESPACE, "-f", file, str(message)], session, terminal=True)
        signature = message.with_name("message.sig")
        if done.code or not signature.exists():
            raise UsageError(
                f"Failed to sign with `{key:.80}`",
                causes=done.last_errors(),
                hint="Set `signing-key` in `[tool.envboot]` or `ENVBOOT_SIGNING_KEY` to a key that "
                "`ssh-keygen -Y sign -n envboot -f KEY FILE` can sign with",
            )
        return signature.read_bytes()


def find_signer(data: bytes, signature: bytes, signers: Path, session: Session) -> str | None:
    """Return which of the allowed signers made a signature, None where none of them did.

    Keys must be valid now, and for the name space `envboot`: a signature says nothing of when it
    was made that could be believed.

    Raises:
        UsageError: there is no ssh-keygen here.
    """
    if len(signature) > LARGEST:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "signature")
        file.write_bytes(signature)
        names = ["-s", str(file), "-f", str(signers)]
        found = _keygen(["find-principals", *names], session)
        for principal in found.text.splitlines()[:MOST] if not found.code else ():
            words = ["verify", "-n", NAMESPACE, "-I", principal, *names]
            if not _keygen(words, session, data=data).code:
                return principal
    return None


def is_of_same_key(data: bytes, signature: bytes, other: bytes, session: Session) -> bool:
    """Tell whether `other` is a signature of `data` too, by the key that made `signature`."""
    if len(other) > LARGEST or not _find_key(other) or _find_key(other) != _find_key(signature):
        return False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "signature")
        file.write_bytes(other)
        words = ["check-novalidate", "-n", NAMESPACE, "-s", str(file)]
        return not _keygen(words, session, data=data).code


def _find_key(signature: bytes) -> bytes:
    """Return the public key inside a signature (OpenSSH's PROTOCOL.sshsig), empty without one."""
    text = b"".join(line for line in signature.splitlines() if not line.startswith(b"-----"))
    try:
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    magic = b"SSHSIG\0\0\0\1"
    size = int.from_bytes(blob[len(magic) : len(magic) + 4], "big")
    return blob[len(magic) + 4 :][:size] if blob.startswith(magic) else b""


def _keygen(
    words: list[str], session: Session, *, data: bytes | None = None, terminal: bool = False
) -> Completed:
    try:
        return run(
            ["ssh-keygen", "-Y", *words],
            environment=session.environment,
            input=data,
            # A person may have to find their hardware key first.
            timeout=None if terminal else PATIENCE,
            terminal=terminal,
        )
    except FileNotFoundError as error:
        raise UsageError("`ssh-keygen` was not found", hint=_HINT) from error
    except TimeoutError:
        return Completed(code=-1)
