"""Whose archives and published environments count: anyone's, this user's own, or signed ones.

Archives are reproducible, so a signature of an index has a meaning that can be checked: its signer
installed the same base from the indexes and got the same files (`fleet.verification`). Therefore
nobody signs what a machine has published before somebody has done that.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envboot.agent.keygen import LARGEST, MOST, name
from envboot.config import Trust, is_public_key
from envboot.errors import StoreError, UsageError
from envboot.folders import home_folder
from envboot.publish.own import find_proof, is_known, remember
from envboot.publish.ssh import find_signer, is_of_same_key, sign
from envboot.store.protocol import MalformedError

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.publish.layout import Keys
    from envboot.session import Session
    from envboot.store.protocol import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustPolicy:
    """What this session trusts; `signers` is the file of allowed signers, where there is one."""

    trust: Trust
    signers: Path | None
    session: Session

    @property
    def signers_text(self) -> str:
        """The allowed signers as documents carry them, without comments.

        Raises:
            UsageError: the file cannot be read.
        """
        lines = _read_signers(self.signers).splitlines() if self.signers else []
        kept = (line.strip() for line in lines)
        return "".join(f"{line}\n" for line in kept if line and line[0] != "#")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether an object may be used: `doubt` says why not, empty where it may.

    `signer` is who signed it, as the file of allowed signers calls them. `vouchers` are the keys
    of the objects that say so.
    """

    doubt: str = ""
    signer: str | None = None
    vouchers: tuple[str, ...] = ()


def find_policy(session: Session) -> TrustPolicy:
    """Return what this session trusts: by its variables, then by its settings.

    The variables come first, so that a project which somebody else wrote cannot lower it.

    Raises:
        UsageError: it is none of `any`, `own` and `signed`, or nobody may sign.
    """
    settings, environment = session.settings, session.environment
    text = environment.get("ENVBOOT_TRUST")
    try:
        trust = Trust(text) if text else settings.trust or Trust.ANY
    except ValueError as error:
        raise UsageError(
            f"Expected `ENVBOOT_TRUST` as `any`, `own` or `signed`, found `{text}`"
        ) from error
    file = environment.get("ENVBOOT_ALLOWED_SIGNERS") or settings.allowed_signers
    signers = _locate(file, session) if file else None
    if trust is Trust.SIGNED:
        if signers is None:
            raise UsageError(
                'Cannot use `trust = "signed"` without the signers that are allowed',
                hint="Set `allowed-signers` in `[tool.envboot]` or `ENVBOOT_ALLOWED_SIGNERS` to a "
                "file of OpenSSH's allowed signers (ssh-keygen(1))",
            )
        _read_signers(signers)
    return TrustPolicy(trust=trust, signers=signers, session=session)


def find_signing_key(session: Session) -> str | None:
    """Return the key to sign with: a file, or a public key. None where there is none."""
    key = session.environment.get("ENVBOOT_SIGNING_KEY") or session.settings.signing_key
    return key if key is None or is_public_key(key) else str(_locate(key, session))


def _locate(text: str, session: Session) -> Path:
    home = home_folder(session.environment)
    return home / text[2:] if text.startswith("~/") else session.folder / text


def _read_signers(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"Cannot read allowed signers `{file}`", causes=(cause,)) from error


def judge_index(policy: TrustPolicy, store: Store, keys: Keys, index: bytes) -> Verdict:
    """Say whether the archive of an index may be used; the index itself has been checked.

    Raises:
        StoreError: the bucket cannot be read.
        UsageError: there is no ssh-keygen here.
    """
    if policy.trust is Trust.SIGNED:
        found = find_signatures(policy, store, keys, index)
        if found.signer:
            return found
        return Verdict(doubt=f"no signer of `{policy.signers}` has signed it{found.doubt}")
    if policy.trust is Trust.OWN and not is_known(policy.session, keys, index):
        if not find_proof(policy.session, store, keys, index):
            return Verdict(doubt="no launch of yours has published it")
        remember(policy.session, keys, index)
    return Verdict()


def find_signatures(policy: TrustPolicy, store: Store, keys: Keys, index: bytes) -> Verdict:
    """Return who signed an index, the first that counts, and which object says so.

    Raises:
        StoreError, UsageError: see `judge_index`.
    """
    seen = 0
    for number in range(1, MOST + 1):
        key = key_signature(keys, index, number)
        try:
            signature = store.read(key, most=LARGEST)
        except MalformedError:
            signature = b""
        if signature is None:
            break
        seen += 1
        signer = policy.signers and find_signer(index, signature, policy.signers, policy.session)
        if signer:
            return Verdict(signer=signer, vouchers=(key,))
    return Verdict(doubt=f" ({seen} signatures do not count)" if seen else "")


def key_signature(keys: Keys, index: bytes, number: int) -> str:
    """Return where a signature of an index is, by its number from 1 on."""
    return f"{keys.base}/{name(hashlib.sha256(index).hexdigest(), number)}"


def sign_index(
    policy: TrustPolicy, store: Store, keys: Keys, index: bytes, key: str
) -> tuple[str, bool]:
    """Sign an index and put the signature beside it, unless there is one of the same key.

    Returns the key of the signature's object, and whether it is new.

    Raises:
        UsageError: nothing can be signed with `key`.
        StoreError: the bucket refuses, or has as many signatures as it may.
    """
    session, signature = policy.session, sign(index, key, policy.session)
    for number in range(1, MOST + 1):
        place = key_signature(keys, index, number)
        if store.create(place, signature):
            return place, True
        with contextlib.suppress(MalformedError):
            other = store.read(place, most=LARGEST)
            if other and is_of_same_key(index, signature, other, session):
                return place, False
    raise StoreError(
        f"Cannot sign `{store.url}/{keys.index}`: it has {MOST} signatures",
        hint=f"Remove one that no longer counts: `envboot store rm {store.url} {place}`",
    )
