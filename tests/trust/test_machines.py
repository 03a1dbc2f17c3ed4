"""What machines do where not everybody's archive counts: publish with a proof, verify, install."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from envboot.publish.grants import Auth
from envboot.publish.layout import Keys
from envboot.publish.trust import key_signature
from envboot.store.local.store import LocalStore
from tests.agent.conftest import parts
from tests.agent.guests import Guest, Launch, Parts, make_launch
from tests.agent.role.cloud import Cloud, assert_comes_from, by_role
from tests.agent.role.conftest import cloud, new_guest
from tests.keys import allow
from tests.servers import s3_bucket, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.keys import Signer

    NewGuest = Callable[[str, Launch], Guest]

__all__ = ["cloud", "new_guest", "parts", "s3_bucket", "s3_server"]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

OWN = {"ENVBOOT_TRUST": "own"}


def trusting(signer: Signer, folder: Path) -> dict[str, str]:
    """Return the variables of somebody who trusts one signer."""
    file = allow(folder / "signers", [signer.line()])
    return {
        "PATH": "/usr/bin:/bin",
        "ENVBOOT_TRUST": "signed",
        "ENVBOOT_ALLOWED_SIGNERS": str(file),
    }


def test_what_a_machine_of_this_user_published_is_known_again(parts: Parts, tmp_path: Path) -> None:
    def launch(user: str, variables: Mapping[str, str] = OWN) -> Launch:
        folder = tmp_path / user
        return make_launch(parts, store, folder, state=folder, environment=variables)

    with LocalStore(f"file://{tmp_path}/bucket") as store:
        first = Guest(tmp_path / "first", launch("ana"))
        assert "index" not in first.launch.grants
        assert first.boot() == wire.READY
        assert first.publish() == wire.READY
        proofs = [stat.key for stat in store.list(f"{first.launch.base_key}/proofs/")]
        assert proofs == [f"{first.launch.base_key}/proofs/launch-0.txt"]
        second = launch("ana")
        assert "sha256" in second.grants["index"]
        # Where the proof has gone it is remembered.
        store.delete(proofs[0])
        assert "sha256" in launch("ana").grants["index"]
        assert "index" not in launch("eve").grants
        assert "sha256" in launch("eve", {}).grants["index"]
        guest = Guest(tmp_path / "second", second)
        assert guest.boot() == wire.READY
        assert guest.result["source"] == "archive"


@pytest.mark.parametrize("kind", ["of another index", "of another place", "too long"])
def test_a_forged_proof_proves_nothing(parts: Parts, tmp_path: Path, kind: str) -> None:
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        first = make_launch(parts, store, tmp_path / "ana", state=tmp_path / "ana", environment=OWN)
        guest = Guest(tmp_path / "first", first)
        assert guest.boot() == wire.READY
        assert guest.publish() == wire.READY
        index, proof = f"{first.base_key}/index.json", f"{first.base_key}/proofs/launch-0.txt"
        content = store.read(proof) or b""
        if kind == "of another index":
            data = store.read(index) or b""
            store.delete(index)
            store.create(index, data + b"\n")
        else:
            store.delete(proof)
            where = proof if kind == "too long" else proof.replace("launch-0", "launch-1")
            store.create(where, content + b"\n" if kind == "too long" else content)
        again = make_launch(parts, store, tmp_path / "ana", state=tmp_path / "ana", environment=OWN)
    assert "index" not in again.grants
    assert "permit" not in again.grants


def test_a_machine_with_a_role_verifies_what_was_signed_after_its_document_was_rendered(
    parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path, ana: Signer, eve: Signer
) -> None:
    launch = by_role(
        cloud,
        make_launch(
            parts,
            cloud.store,
            tmp_path / "cache",
            auth=Auth.ROLE,
            environment=trusting(ana, tmp_path),
        ),
    )
    assert launch.grants["signers"] == f"{ana.line()}\n"
    first = new_guest("first", launch)
    assert_comes_from(first, "install")
    assert first.publish() == wire.READY, first.events[-1]
    keys = Keys(launch.manifest)
    index = cloud.store.read(keys.index)
    assert index
    unsigned = new_guest("unsigned", launch)
    assert_comes_from(unsigned, "install", wire.DEGRADED)
    assert "fetch: no allowed signer has signed it (0 signatures)" in unsigned.reasons
    # Its own could only be refused, and is not offered.
    assert not list(unsigned.opt.glob("publish-*"))
    for number, signature in enumerate((b"rubbish", eve.sign(index), ana.sign(index, "git"))):
        cloud.store.create(key_signature(keys, index, number + 1), signature)
    foreign = new_guest("foreign", launch)
    assert_comes_from(foreign, "install", wire.DEGRADED)
    assert "(3 signatures)" in foreign.reasons
    cloud.store.create(key_signature(keys, index, 4), ana.sign(index))
    assert_comes_from(new_guest("signed", launch), "archive")
    without = new_guest("without", launch)
    without.environment["PATH"] = "/usr/lib"
    assert_comes_from(without, "install", wire.DEGRADED)
    told = "fetch: ssh-keygen cannot verify a signature here: FileNotFoundError"
    assert without.reasons.startswith(told)


def test_an_index_that_was_swapped_after_it_was_signed_is_refused_by_a_machine_with_a_role(
    parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path, ana: Signer
) -> None:
    variables = trusting(ana, tmp_path)
    launch = by_role(
        cloud,
        make_launch(parts, cloud.store, tmp_path / "cache", auth=Auth.ROLE, environment=variables),
    )
    keys = Keys(launch.manifest)
    honest = b'{"index_version": 1}'
    cloud.store.create(key_signature(keys, honest, 1), ana.sign(honest))
    swapped = json.dumps({"index_version": 1, "base": launch.manifest.base_digest}).encode()
    cloud.store.create(keys.index, swapped)
    cloud.store.create(key_signature(keys, swapped, 1), ana.sign(honest))
    guest = new_guest("guest", launch)
    assert_comes_from(guest, "install", wire.DEGRADED)
    assert "no allowed signer has signed it (1 signatures)" in guest.reasons


def test_a_role_cannot_know_what_will_be_this_users_own(
    parts: Parts, cloud: Cloud, new_guest: NewGuest, tmp_path: Path
) -> None:
    launch = make_launch(
        parts,
        cloud.store,
        tmp_path / "cache",
        auth=Auth.ROLE,
        state=tmp_path / "state",
        environment=OWN,
    )
    assert {"archive", "index", "permit", "signers"}.isdisjoint(launch.grants)
    guest = new_guest("guest", by_role(cloud, launch))
    assert_comes_from(guest, "install")
    assert guest.publish() == wire.READY
    assert not cloud.store.find(Keys(launch.manifest).index)
