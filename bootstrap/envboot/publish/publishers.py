"""Who published a version of an environment: what its document claims, and what it proves.

The signature is of all other members, name and version among them, so that it proves no other
version and no other name.
"""

from __future__ import annotations

import hmac
import os
import platform
from typing import TYPE_CHECKING, Any

from envboot.agent import wire
from envboot.config import Trust
from envboot.errors import UsageError
from envboot.publish.own import mark
from envboot.publish.ssh import find_signer, sign
from envboot.publish.trust import TrustPolicy, Verdict, find_signing_key

if TYPE_CHECKING:
    from envboot.session import Session

PROOFS = ("mark", "signature")
"""The members that prove the others: an HMAC of this user's own, and a signature."""


def vouch(document: dict[str, Any], policy: TrustPolicy) -> dict[str, Any]:
    """Return the document of a version with its publisher, and signed where there is a key.

    Raises:
        UsageError: nothing can be signed with the key, or this user would not use the version.
    """
    session = policy.session
    claimed = {**document, "publisher": _find_user(session)}
    data, key = wire.canonical(claimed), find_signing_key(session)
    proven = {**claimed, "mark": mark(data, session)}
    if key:
        proven["signature"] = sign(data, key, session).decode("ascii")
    doubt = judge_version(proven, policy).doubt
    if doubt:
        raise UsageError(
            f'Cannot publish `{document["name"]}` with `trust = "{policy.trust.value}"`: {doubt}',
            hint="Set `signing-key` in `[tool.envboot]` or `ENVBOOT_SIGNING_KEY` to the key of an "
            "allowed signer",
        )
    return proven


def judge_version(document: dict[str, Any], policy: TrustPolicy) -> Verdict:
    """Say who signed the document of a version, and whether the version may be used.

    Raises:
        UsageError: there is no ssh-keygen here.
    """
    claimed = {name: value for name, value in document.items() if name not in PROOFS}
    signer = None
    try:
        data = wire.canonical(claimed)
    except UnicodeEncodeError:
        # Of half a surrogate pair; nobody has signed that.
        data = b""
    signature = document.get("signature")
    if policy.signers and isinstance(signature, str):
        signer = find_signer(data, signature.encode(), policy.signers, policy.session)
    if policy.trust is Trust.SIGNED and not signer:
        return Verdict(doubt=f"no signer of `{policy.signers}` has signed it")
    if policy.trust is Trust.OWN and not _is_own(document, data, policy):
        return Verdict(doubt="you have not published it here", signer=signer)
    return Verdict(signer=signer)


def _is_own(document: dict[str, Any], data: bytes, policy: TrustPolicy) -> bool:
    found = document.get("mark")
    return isinstance(found, str) and hmac.compare_digest(
        found.encode(), mark(data, policy.session).encode()
    )


def _find_user(session: Session) -> str:
    """Return who this is, as in `ana@laptop`: what anybody may claim."""
    name = session.environment.get("USER") or session.environment.get("USERNAME")
    if not name and os.name != "nt":
        import pwd

        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
    return f"{name or 'unknown'}@{platform.node() or 'unknown'}"
