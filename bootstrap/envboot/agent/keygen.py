"""Whether somebody that a document names has signed something: asked of OpenSSH's ssh-keygen."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from typing import Any, Callable, Dict

from .wire import AgentError

# Signatures of an index at most, and bytes of one: certificates of RSA keys have 4 KB.
MOST, LARGEST = 16, 16 << 10
NAMESPACE = "envboot"
# What a launch's own key signs: a signature for one purpose counts for no other.
DESIRED_STATE = "envboot-desired-state"


def name(sha256: str, number: int) -> str:
    """Return where a signature of an index is, beside it; the first one has the number 1."""
    return "signatures/%s-%d.sig" % (sha256, number)


def check(ask: Callable[..., Any], url: str, data: bytes, signers: str) -> None:
    """Raise AgentError unless one of `signers`, as ssh-keygen(1) lists them, signed the index."""
    sha256, seen = hashlib.sha256(data).hexdigest(), 0
    while seen < MOST:
        place = url.rpartition("/")[0] + "/" + name(sha256, seen + 1)
        part = {"Range": "bytes=0-%d" % (LARGEST - 1)}
        status, signature, _ = ask("GET", place, None, part)
        if status >= 300:
            break
        seen += 1
        if is_signed(data, signature[:LARGEST], signers, NAMESPACE):
            return
    text = "no allowed signer has signed it (%d signatures): index %s"
    raise AgentError(text % (seen, sha256))


def is_signed(message: bytes, signature: bytes, signers: str, namespace: str) -> bool:
    """Return whether one of `signers`, as ssh-keygen(1) lists them, has signed a message.

    The format is OpenSSH's (PROTOCOL.sshsig), which `ssh-keygen -Y sign` writes since OpenSSH 8.1.

    Raises:
        AgentError: ssh-keygen cannot be run here.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            _write(folder + "/signers", signers.encode())
            _write(folder + "/message", message)
            _write(folder + "/signature", signature)
            for principal in _keygen(folder, "find-principals").splitlines()[:MOST]:
                # It prints something only where the signature is good.
                if _keygen(folder, "verify", "-n", namespace, "-I", principal):
                    return True
    except (OSError, subprocess.TimeoutExpired) as error:
        # Not as an OSError, after which the same would be fetched again.
        raise AgentError("ssh-keygen cannot verify a signature here: %r" % error) from error
    return False


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)
    os.chmod(path, 0o644)


def _keygen(folder: str, *words: str) -> str:
    """Return what ssh-keygen prints, nothing where it fails."""
    user: Dict[str, Any] = {}
    if not os.getuid():
        # A reader of untrusted input has no business with root's files.
        user = {"user": 65534, "group": 65534, "extra_groups": []}
    names = ["-s", folder + "/signature", "-f", folder + "/signers"]
    with open(folder + "/message", "rb") as stream:
        done = subprocess.run(
            ["ssh-keygen", "-Y", *words, *names],
            stdin=stream,
            capture_output=True,
            cwd="/",
            timeout=60,
            check=False,
            **user,
        )
    return "" if done.returncode else done.stdout.decode(errors="replace")
