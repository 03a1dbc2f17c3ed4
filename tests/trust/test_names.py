"""Whose versions of a published environment count, and who published them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import wire
from envboot.errors import StoreError, UsageError
from envboot.manifest import Base, Manifest, Python
from envboot.publish.environments import (
    describe,
    find_environment,
    list_versions,
    publish_environment,
    read_versions,
)
from tests.keys import allow
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.schema import Problem
    from envboot.session import Session
    from envboot.store.local.store import LocalStore
    from tests.keys import Signer

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
BASE = Base(
    platform="linux-64",
    python=Python(version="3.11.7", source="host"),
    virtual_packages={},
    tools={},
)


def environment(number: int) -> Manifest:
    return Manifest(base=replace(BASE, virtual_packages={"__glibc": f"2.{number}"}))


def user(folder: Path, trust: str, allowed: Signer | None = None, **other: str) -> Session:
    """Return somebody's session, with a state directory of their own."""
    folder.mkdir(exist_ok=True)
    variables = {"PATH": "/usr/bin:/bin", "USER": folder.name, "ENVBOOT_TRUST": trust, **other}
    if allowed:
        file = allow(folder / "signers", [allowed.line()])
        variables["ENVBOOT_ALLOWED_SIGNERS"] = str(file)
    return make_session(
        folder=folder, cache=folder / "cache", state=folder / "state", environment=variables
    )


def put(store: LocalStore, session: Session, number: int) -> dict[str, Any]:
    published = publish_environment("team", environment(number), None, store, session, now=NOW)
    return published.document


def latest(store: LocalStore, session: Session) -> tuple[int, list[str]]:
    """Return which version is the newest, and which newer ones are passed over."""
    told: list[Problem] = []
    document, _ = find_environment(store, "team@latest", session, warn=told.extend)
    return document["version"], [f"{each.subject}: {each.message}" for each in told]


def test_the_newest_signed_version_is_the_latest(
    store: LocalStore, tmp_path: Path, ana: Signer, eve: Signer
) -> None:
    signer = user(tmp_path / "ana", "signed", ana, ENVBOOT_SIGNING_KEY=str(ana.key))
    stranger = user(tmp_path / "eve", "any", ENVBOOT_SIGNING_KEY=str(eve.key))
    one = put(store, signer, 1)
    assert (one["version"], one["signer"]) == (1, "ana@example.com")
    assert one["publisher"].startswith("ana@")
    two = put(store, stranger, 2)
    assert "signer" not in two
    put(store, user(tmp_path / "bob", "any"), 3)
    store.create("names/team/00000004.json", b"rubbish")
    version, told = latest(store, signer)
    assert version == 1
    assert [each.partition(":")[0] for each in told] == ["team@4", "team@3", "team@2"]
    assert told[2].startswith("team@2: not used: no signer of `")
    with pytest.raises(StoreError, match="Cannot use environment `team@2`") as error:
        find_environment(store, "team@2", signer)
    assert "has signed it" in error.value.causes[0]
    documents, wrong, doubts = read_versions(
        store, [("team", number) for number in (1, 2, 3, 4)], signer
    )
    assert [each.get("signer") for each in documents] == ["ana@example.com", None, None]
    assert (len(wrong), len(doubts)) == (1, 2)
    # Whoever trusts everybody gets what is there, broken or not.
    store.delete("names/team/00000004.json")
    assert latest(store, stranger) == (3, [])


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"environment": "sha256:" + "1" * 64},
        {"publisher": "somebody@else"},
        {"name": "other"},
        {"more": "members"},
        {"signature": "no signature"},
    ],
)
def test_a_signature_is_of_one_version_of_one_name(
    store: LocalStore, tmp_path: Path, ana: Signer, change: dict[str, Any]
) -> None:
    signer = user(tmp_path / "ana", "signed", ana, ENVBOOT_SIGNING_KEY=str(ana.key))
    put(store, signer, 1)
    document = {**json.loads(store.read("names/team/00000001.json") or b""), **change}
    name, version = document["name"], document["version"]
    store.delete(f"names/{name}/{version:08d}.json")
    store.create(f"names/{name}/{version:08d}.json", wire.canonical(document))
    with pytest.raises(StoreError, match="Cannot use environment"):
        find_environment(store, f"{name}@{version}", signer)


def test_a_signature_of_an_archive_is_none_of_a_version(
    store: LocalStore, tmp_path: Path, ana: Signer
) -> None:
    signer = user(tmp_path / "ana", "signed", ana, ENVBOOT_SIGNING_KEY=str(ana.key))
    document = {**describe("team", 1, environment(1), NOW), "publisher": "ana@laptop"}
    other = {**document, "signature": ana.sign(wire.canonical(document), "file").decode()}
    store.create("names/team/00000001.json", wire.canonical(other))
    with pytest.raises(StoreError, match="Cannot use environment `team@latest`"):
        find_environment(store, "team", signer)


def test_own_versions_are_those_that_were_published_here(store: LocalStore, tmp_path: Path) -> None:
    ana, eve = user(tmp_path / "ana", "own"), user(tmp_path / "eve", "own")
    put(store, ana, 1)
    put(store, eve, 2)
    assert latest(store, ana) == (1, ["team@2: not used: you have not published it here"])
    assert latest(store, eve) == (2, [])
    # The same environment under a version that she does not use is a version of hers to make.
    assert put(store, ana, 2)["version"] == 3
    assert put(store, ana, 2)["version"] == 3
    assert latest(store, ana) == (3, [])


def test_what_its_publisher_would_not_use_is_not_published(
    store: LocalStore, tmp_path: Path, ana: Signer, eve: Signer
) -> None:
    without = user(tmp_path / "ana", "signed", ana)
    other = user(tmp_path / "eve", "signed", ana, ENVBOOT_SIGNING_KEY=str(eve.key))
    for session in (without, other):
        with pytest.raises(UsageError, match='Cannot publish `team` with `trust = "signed"`'):
            put(store, session, 1)
    assert list_versions(store, "team") == []


def test_versions_of_older_releases_have_no_publisher(store: LocalStore, tmp_path: Path) -> None:
    session = user(tmp_path / "ana", "any")
    document = describe("team", 1, environment(1), NOW)
    store.create("names/team/00000001.json", wire.canonical(document))
    store.create(
        f"environments/{environment(1).environment_digest[7:]}.json", environment(1).to_bytes()
    )
    found, _ = find_environment(store, "team", session)
    assert found == document
    with pytest.raises(StoreError, match="Cannot use environment"):
        find_environment(store, "team", user(tmp_path / "ana", "own"))
