"""Whose archives a launch pins: anyone's, this user's own, or those that somebody signed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent.keygen import MOST
from envboot.config import Settings, Trust, read_settings
from envboot.errors import UsageError
from envboot.manifest import Base, Manifest, Python
from envboot.publish import publish
from envboot.publish.grants import Grants, Terms
from envboot.publish.layout import Keys
from envboot.publish.own import mark, remember
from envboot.publish.trust import find_policy, find_signing_key, key_signature, sign_index
from tests.bases import make_index
from tests.keys import allow
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from envboot.scan.schema import Problem
    from envboot.session import Session
    from envboot.store.local.store import LocalStore
    from tests.keys import Signer

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

ARCHIVE = b"what a machine has packed"
PYTHON = Python(version="3.11.7", source="host")
MANIFEST = Manifest(base=Base(platform="linux-64", python=PYTHON, virtual_packages={}, tools={}))
OTHER = Manifest(base=replace(MANIFEST.base, virtual_packages={"__glibc": "2.28"}))
KEYS = Keys(MANIFEST)
INDEX = make_index(MANIFEST, ARCHIVE)


def open_session(folder: Path, environment: Mapping[str, str]) -> Session:
    return make_session(
        folder=folder, cache=folder / "cache", state=folder / "state", environment=environment
    )


def signed(folder: Path, *lines: str) -> Session:
    """Return the session of somebody who trusts these signers."""
    variables = {
        "PATH": "/usr/bin:/bin",
        "ENVBOOT_TRUST": "signed",
        "ENVBOOT_ALLOWED_SIGNERS": str(allow(folder / "signers", lines)),
    }
    return open_session(folder, variables)


def own(folder: Path) -> Session:
    return open_session(folder, {"ENVBOOT_TRUST": "own"})


def fill(store: LocalStore) -> None:
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, INDEX)


def put(
    store: LocalStore, session: Session, told: list[Problem] | None = None, **terms: Any
) -> Grants:
    warn = told.extend if told is not None else lambda _: None
    chosen = Terms(launch="launch", seconds=60, **terms)
    return publish(MANIFEST, None, store, session, chosen, warn=warn)


def is_refused(store: LocalStore, session: Session) -> str:
    """Launch where the archive is not trusted; return what the user is told."""
    told: list[Problem] = []
    grants = put(store, session, told)
    assert (grants.archive, grants.index, grants.permit) == (None, None, None)
    assert "PUT" not in json.dumps(grants.to_dict())
    # It is left alone: others may trust it.
    assert store.find(KEYS.index)
    [problem] = told
    assert problem.subject == f"{store.url}/{KEYS.index}"
    return problem.message


def test_what_an_allowed_signer_signed_is_pinned(
    store: LocalStore, tmp_path: Path, ana: Signer
) -> None:
    fill(store)
    session = signed(tmp_path, ana.line())
    told = is_refused(store, session)
    assert told.startswith("not used, because no signer of `")
    assert told.endswith("signers` has signed it: machines install, and do not publish")
    place, is_new = sign_index(find_policy(session), store, KEYS, INDEX, str(ana.key))
    assert is_new
    assert place == f"{KEYS.base}/signatures/{hashlib.sha256(INDEX).hexdigest()}-1.sig"
    grants = put(store, session)
    assert grants.index
    assert grants.index.sha256 == hashlib.sha256(INDEX).hexdigest()
    assert grants.permit is None
    assert grants.signers is None


def test_of_several_signers_one_is_enough_and_each_signs_once(
    store: LocalStore, tmp_path: Path, ana: Signer, eve: Signer
) -> None:
    fill(store)
    session = signed(tmp_path, ana.line())
    policy = find_policy(session)
    found = [
        sign_index(policy, store, KEYS, INDEX, str(signer.key)) for signer in (eve, ana, eve, ana)
    ]
    assert [is_new for _, is_new in found] == [True, True, False, False]
    assert found[2:] == [(place, False) for place, _ in found[:2]]
    assert put(store, session).index


def flip(text: bytes, at: int) -> bytes:
    """Change one letter of base64."""
    return text[:at] + (b"B" if text[at : at + 1] == b"A" else b"A") + text[at + 1 :]


def attack(kind: str, ana: Signer, eve: Signer) -> tuple[bytes, str]:
    """Return a signature that must not count, and the line of the allowed signer."""
    other = make_index(OTHER, ARCHIVE)
    whole = ana.sign(INDEX)
    made = {
        "of another base": (ana.sign(other), ana.line()),
        "of another name space": (ana.sign(INDEX, "git"), ana.line()),
        "by somebody else": (eve.sign(INDEX), ana.line()),
        "by a key that expired": (whole, ana.line('valid-before="20200101"')),
        "by a key that is not valid yet": (whole, ana.line('valid-after="29990101"')),
        "by a key for another name space": (whole, ana.line('namespaces="git"')),
        "cut off": (whole[: len(whole) // 2], ana.line()),
        "changed": (flip(whole, len(whole) // 2), ana.line()),
        "empty": (b"", ana.line()),
        "too large": (whole + b"\n" * 20_000, ana.line()),
        "of an index that was swapped": (ana.sign(INDEX + b" "), ana.line()),
    }
    return made[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "of another base",
        "of another name space",
        "by somebody else",
        "by a key that expired",
        "by a key that is not valid yet",
        "by a key for another name space",
        "cut off",
        "changed",
        "empty",
        "too large",
        "of an index that was swapped",
    ],
)
def test_a_signature_that_does_not_count_is_as_good_as_none(
    store: LocalStore, tmp_path: Path, ana: Signer, eve: Signer, kind: str
) -> None:
    fill(store)
    signature, line = attack(kind, ana, eve)
    store.create(key_signature(KEYS, INDEX, 1), signature)
    assert "(1 signatures do not count)" in is_refused(store, signed(tmp_path, line))


def test_a_signed_index_of_another_base_is_not_this_ones(
    store: LocalStore, tmp_path: Path, ana: Signer
) -> None:
    index = make_index(OTHER, ARCHIVE)
    store.create(KEYS.archive, ARCHIVE)
    store.create(KEYS.index, index)
    store.create(key_signature(KEYS, index, 1), ana.sign(index))
    told: list[Problem] = []
    grants = put(store, signed(tmp_path, ana.line()), told)
    assert grants.index is None
    assert f"it is of base `{OTHER.base_digest}`" in told[0].message


def test_a_place_that_somebody_filled_with_rubbish_keeps_nobody_from_signing(
    store: LocalStore, tmp_path: Path, ana: Signer
) -> None:
    fill(store)
    session = signed(tmp_path, ana.line())
    for number in range(1, MOST):
        store.create(key_signature(KEYS, INDEX, number), b"rubbish" * number)
    place, _ = sign_index(find_policy(session), store, KEYS, INDEX, str(ana.key))
    assert place.endswith(f"-{MOST}.sig")
    assert put(store, session).index


def test_where_nothing_is_published_machines_publish_and_take_what_nobody_else_does(
    store: LocalStore, tmp_path: Path, ana: Signer
) -> None:
    for session in (signed(tmp_path, ana.line()), own(tmp_path)):
        grants = put(store, session)
        assert grants.permit
        assert grants.archive
        assert grants.index is None
        assert grants.signers is None


def test_only_this_users_own_count(store: LocalStore, tmp_path: Path) -> None:
    fill(store)
    session = own(tmp_path)
    assert "no launch of yours has published it" in is_refused(store, session)
    remember(session, KEYS, INDEX)
    assert put(store, session).index
    (tmp_path / "else").mkdir()
    is_refused(store, own(tmp_path / "else"))


def test_a_project_cannot_lower_what_the_user_trusts(tmp_path: Path, ana: Signer) -> None:
    (tmp_path / "src").mkdir()
    allow(tmp_path / "theirs", [ana.line()])
    (tmp_path / "pyproject.toml").write_text(
        '[tool.envboot]\ntrust = "any"\nallowed-signers = "theirs"\nsigning-key = "~/key"\n'
    )
    settings = read_settings(tmp_path / "src")
    environment = {"HOME": "/home/ana"}
    session = make_session(folder=tmp_path, environment=environment, settings=settings)
    assert find_policy(session).trust is Trust.ANY
    assert find_policy(session).signers == tmp_path / "theirs"
    assert find_signing_key(session) == "/home/ana/key"
    mine = {
        **environment,
        "ENVBOOT_TRUST": "own",
        "ENVBOOT_ALLOWED_SIGNERS": "mine",
        "ENVBOOT_SIGNING_KEY": ana.public,
    }
    session = make_session(folder=tmp_path, environment=mine, settings=settings)
    assert find_policy(session).trust is Trust.OWN
    assert find_policy(session).signers == tmp_path / "mine"
    assert find_signing_key(session) == ana.public


@pytest.mark.parametrize(
    ("environment", "settings", "told"),
    [
        ({"ENVBOOT_TRUST": "all"}, Settings(), "Expected `ENVBOOT_TRUST` as `any`"),
        ({}, Settings(trust=Trust.SIGNED), "without the signers that are allowed"),
        (
            {"ENVBOOT_ALLOWED_SIGNERS": "/nowhere"},
            Settings(trust=Trust.SIGNED),
            "Cannot read allowed signers `/nowhere`",
        ),
    ],
)
def test_what_cannot_be_trusted_so_is_refused(
    environment: dict[str, str], settings: Settings, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        find_policy(make_session(environment=environment, settings=settings))


def test_a_key_of_an_agent_is_named_by_its_public_half(
    store: LocalStore, tmp_path: Path, ana: Signer, ssh_agent: Mapping[str, str]
) -> None:
    fill(store)
    session = signed(tmp_path, ana.line())
    session = replace(session, environment={**session.environment, **ssh_agent})
    sign_index(find_policy(session), store, KEYS, INDEX, ana.public)
    assert put(store, session).index


def test_a_key_that_cannot_sign_is_an_error_in_the_words_of_ssh_keygen(
    store: LocalStore, tmp_path: Path, ana: Signer
) -> None:
    policy = find_policy(signed(tmp_path, ana.line()))
    with pytest.raises(UsageError, match="Failed to sign with `/nowhere`") as error:
        sign_index(policy, store, KEYS, INDEX, "/nowhere")
    assert "No such file" in error.value.causes[0]


def test_without_ssh_keygen_it_is_told(store: LocalStore, tmp_path: Path, ana: Signer) -> None:
    fill(store)
    store.create(key_signature(KEYS, INDEX, 1), ana.sign(INDEX))
    session = signed(tmp_path, ana.line())
    session = replace(session, environment={**session.environment, "PATH": str(tmp_path)})
    with pytest.raises(UsageError, match="`ssh-keygen` was not found"):
        put(store, session)


def test_two_who_come_first_have_one_secret(tmp_path: Path) -> None:
    session = own(tmp_path)
    assert mark(b"data", session) == mark(b"data", session)
    assert (tmp_path / "state/trust.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["trust.key"]
