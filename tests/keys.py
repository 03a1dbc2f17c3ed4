"""Signers with real keys of OpenSSH, and files of allowed signers."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """Somebody with a key: who they are, the file of the private key, the public key's text."""

    name: str
    key: Path

    @property
    def public(self) -> str:
        """The public key, `ssh-ed25519 AAAA…`."""
        return " ".join(self.key.with_suffix(".pub").read_text().split()[:2])

    def line(self, options: str = "") -> str:
        """Return the line that allows this signer, perhaps with options."""
        return " ".join(filter(None, [self.name, options, self.public]))

    def sign(self, data: bytes, namespace: str = "envboot") -> bytes:
        """Sign as ssh-keygen does, whatever the name space."""
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.key)]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def make_signer(folder: Path, name: str) -> Signer:
    """Make a key for somebody."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / name.partition("@")[0]
    words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
    subprocess.run(["ssh-keygen", *words], check=True)
    return Signer(name=name, key=key)


def allow(file: Path, lines: Sequence[str]) -> Path:
    """Write a file of allowed signers."""
    file.write_text("# Who may sign\n\n" + "".join(f"{line}\n" for line in lines))
    return file
