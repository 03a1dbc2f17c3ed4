"""Signatures of the client's, verified by OpenSSH: what came from the bucket may be anybody's."""

from __future__ import annotations

import os
import subprocess

from .wire import AgentError, line

# What a launch's key signs: no signature for something else counts.
NAMESPACE = "envboot-desired-state"


def verified(message: bytes, signature: str, signers: str, namespace: str) -> bytes:
    """Return the message; AgentError unless one of the public keys, a line each, has signed it.

    The format is OpenSSH's (PROTOCOL.sshsig), which `ssh-keygen -Y sign` writes since OpenSSH 8.1.
    """
    allowed = "".join("* %s\n" % key for key in signers.splitlines())
    # Read by name, but never on a disk.
    files = [os.memfd_create(name) for name in ("signature", "signers")]
    try:
        for file, text in zip(files, (signature, allowed)):
            os.write(file, text.encode())
        command = "ssh-keygen -Y verify -I envboot -n %s -s /proc/self/fd/%d -f /proc/self/fd/%d"
        done = subprocess.run(
            (command % (namespace, *files)).split(),
            input=message,
            pass_fds=files,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        text = "ssh-keygen is not installed here, so that no signature can be verified"
        raise AgentError(text) from error
    finally:
        for file in files:
            os.close(file)
    if done.returncode:
        told = done.stderr or done.stdout
        raise AgentError(
            "the signature is not the client's: " + line(told.decode(errors="replace").strip())
        )
    return message
