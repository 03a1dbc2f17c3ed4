"""The key of a launch: with it the client signs what running machines are to become.

Machines run as root what their launch wants of them, and everyone who may write to the bucket
could have written it. The public key is in their user-data; the private one stays here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from envboot import process
from envboot.agent.keygen import DESIRED_STATE
from envboot.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.session import Session

PROGRAM = "ssh-keygen"
_SECONDS = 30.0


def ensure_key(session: Session, launch: str) -> str | None:
    """Return the public key of a launch, one line, and make the key where there is none.

    None where OpenSSH's `ssh-keygen` is not installed: machines then follow no changes.

    Raises:
        UsageError: the key cannot be made.
    """
    if _find_program(session) is None:
        return None
    path = find_path(session.state, launch)
    if path.exists():
        found = _run(session, launch, ["-y", "-f", os.fspath(path)]).decode()
    else:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # It writes the file with mode 0600, and the public key beside it.
        _run(session, launch, ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", os.fspath(path)])
        public = path.with_name(f"{path.name}.pub")
        found = public.read_text("ascii")
        public.unlink()
    # Without the comment.
    return " ".join(found.split()[:2])


def sign(session: Session, launch: str, message: bytes) -> str:
    """Return the signature of a message with the key of a launch, in OpenSSH's armour.

    The same message always has the same signature (Ed25519, RFC 8032).

    Raises:
        UsageError: see `check_key`.
    """
    check_key(session, launch)
    path = os.fspath(find_path(session.state, launch))
    return _run(
        session, launch, ["-q", "-Y", "sign", "-f", path, "-n", DESIRED_STATE], message
    ).decode()


def check_key(session: Session, launch: str) -> None:
    """Check that changes for a launch can be signed here.

    Raises:
        UsageError: its key is not on this machine, or nothing can sign with it.
    """
    path = find_path(session.state, launch)
    if not path.exists():
        raise UsageError(
            f"Cannot sign changes for `{launch}`: its key `{path}` is not here",
            hint="Sync as the user and on the machine that launched it, or launch again",
        )
    if _find_program(session) is None:
        raise UsageError(
            f"Cannot sign changes for `{launch}`: `{PROGRAM}` is not on PATH",
            hint="Install OpenSSH's client, as with `apt-get install openssh-client`",
        )


def find_path(state: Path, launch: str) -> Path:
    """Return where the private key of a launch is, beside what else is known of it."""
    return state / "launches" / f"{launch}.key"


def _find_program(session: Session) -> str | None:
    return process.find_program(PROGRAM, session.environment, session.folder)


def _run(
    session: Session, launch: str, arguments: list[str], message: bytes | None = None
) -> bytes:
    program = _find_program(session)
    assert program, "callers have looked"
    try:
        done = process.run(
            [program, *arguments],
            environment=session.environment,
            input=message,
            timeout=_SECONDS,
        )
    except OSError as error:
        raise UsageError(f"Failed to run `{program}`", causes=(str(error),)) from error
    if done.code:
        raise UsageError(f"Failed to use the key of `{launch}`", causes=done.last_errors())
    return done.stdout
