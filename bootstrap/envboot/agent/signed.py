"""Whether somebody that a document names has signed an index: asked of OpenSSH's own ssh-keygen."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from typing import Any, Callable, Dict, List

from .wire import AgentError

# Signatures of an index at most, and bytes of one: certificates of RSA keys have 4 KB.
MOST, LARGEST = 16, 16 << 10
NAMESPACE = "envboot"


def name(sha256: str, number: int) -> str:
    """Return where a signature of an index is, beside it; the first one has the number 1."""
    return "signatures/%s-%d.sig" % (sha256, number)


def check(ask: Callable[..., Any], url: str, data: bytes, signers: str) -> None:
    """Raise AgentError unless one of `signers`, as ssh-keygen(1) lists them, signed the index."""
    user: Dict[str, Any] = {}
    if not os.getuid():
        # A reader of untrusted input has no business with root's files.
        user = {"user": 65534, "group": 65534, "extra_groups": []}
    sha256, seen = hashlib.sha256(data).hexdigest(), 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)

        def write(path: str, content: bytes) -> str:
            with open(folder + "/" + path, "wb") as stream:
                stream.write(content)
            os.chmod(stream.name, 0o644)
            return stream.name

        def keygen(*words: str) -> "subprocess.CompletedProcess[bytes]":
            command: List[str] = ["ssh-keygen", "-Y", *words, "-s", folder + "/s", "-f", allowed]
            with open(folder + "/index", "rb") as stream:
                return subprocess.run(
                    command,
                    stdin=stream,
                    capture_output=True,
                    cwd="/",
                    timeout=60,
                    check=False,
                    **user,
                )

        allowed = write("signers", signers.encode())
        write("index", data)
        for number in range(1, MOST + 1):
            place = url.rpartition("/")[0] + "/" + name(sha256, number)
            status, signature, _ = ask("GET", place, None, {"Range": "bytes=0-%d" % (LARGEST - 1)})
            if status >= 300:
                break
            seen += 1
            write("s", signature[:LARGEST])
            try:
                found = keygen("find-principals").stdout.decode(errors="replace").splitlines()
                for principal in found[:MOST]:
                    words = "verify", "-n", NAMESPACE, "-I", principal
                    if not keygen(*words).returncode:
                        return
            except FileNotFoundError as error:
                raise AgentError("its signature cannot be verified: no ssh-keygen here") from error
            except subprocess.TimeoutExpired:
                pass
    text = "no allowed signer has signed it (%d signatures): index %s"
    raise AgentError(text % (seen, sha256))
